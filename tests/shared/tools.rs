//! Tests that need programs of the machine. Where one is missing, such a test says on stderr what
//! was not run and passes; with `KNOTHOLE_LAB=require` it fails. Each that ran adds the line
//! `lab: NAME ran` to the file named by `KNOTHOLE_LAB_LOG`, and `.ci/run` compares.

use std::any::type_name;
use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// Runs a test under a name (see [`name_of`]) if nothing is `missing`, or says why it cannot be run.
pub fn run(name: &str, missing: Result<(), impl AsRef<str>>, test: impl FnOnce()) {
    if let Err(missing) = missing {
        let missing = missing.as_ref();
        assert!(
            std::env::var_os("KNOTHOLE_LAB").is_none_or(|wish| wish != "require"),
            "KNOTHOLE_LAB=require, but {name} cannot run here: it needs {missing}"
        );
        // Written past the test harness, which keeps the output of passing tests to itself.
        let line = format!("not run: {name}: needs {missing}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    let outcome = catch_unwind(AssertUnwindSafe(test));
    log_as_ran(name);
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// The name of the function that a closure of the type `F` is in, without its module.
pub fn name_of<F>() -> &'static str {
    let name = type_name::<F>().trim_end_matches("::{{closure}}");
    name.rsplit("::").next().unwrap_or(name)
}

/// Says which of these programs are not there; each comes with the Debian package it is in.
pub fn missing(tools: &[(&str, &str)]) -> Result<(), String> {
    let path = search_path();
    let there = |tool: &str| {
        path.split(':')
            .any(|dir| Path::new(dir).join(tool).is_file())
    };
    let missing: Vec<String> = tools
        .iter()
        .filter(|(tool, _)| !there(tool))
        .map(|(tool, package)| format!("{tool} (package {package})"))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(missing.join(", "))
    }
}

/// `PATH` and the folders of system tools.
pub fn search_path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    format!("{own}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

fn log_as_ran(name: &str) {
    let Some(path) = std::env::var_os("KNOTHOLE_LAB_LOG") else {
        return;
    };
    // One write to a file opened for appending, so that tests at the same time do not mix.
    let log = File::options().create(true).append(true).open(&path);
    log.and_then(|mut log| log.write_all(format!("lab: {name} ran\n").as_bytes()))
        .unwrap_or_else(|error| panic!("KNOTHOLE_LAB_LOG={}: {error}", path.display()));
}

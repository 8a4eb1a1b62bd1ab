//! An invite as a QR code: on stderr where it fits and makes sense, and in a file.

use std::path::PathBuf;
use std::str::FromStr;

use super::failure::Failure;
use super::ui::{self, Ctx, Ui, When};
use crate::io::files::{FileError, FileErrorKind, OwnFile};
use crate::report::qr::Code;

/// Stands above the picture.
const CAPTION: &str = "Or scan this there; --qr-image reads it from a photo or screenshot:";
/// What stands below it: the prompt for a reply code, with one typed.
const PROMPT: &str = "reply code, if the other side shows one: XXXX-XXXX-XXXX";

/// Shows `text` as a QR code, or says in one line why not. `has_file` says that it is in a file.
pub fn show(ui: &Ui, text: &str, when: When, has_file: bool) {
    let size = ui::terminal_size();
    let wanted = match when {
        When::Never => false,
        When::Always => true,
        When::Auto => size.is_some() && !ui.json(),
    };
    if !wanted {
        return;
    }
    match lines(text, when, size, ui.err().is_on()) {
        Ok(lines) => ui.block(&lines),
        Err(why) => {
            // Short: it has to fit a line where the picture did not.
            let instead = if has_file { "" } else { "; try --qr-file" };
            ui.note(&ui.err().dim(&format!("(QR {why}{instead})")));
        }
    }
}

/// The caption and the picture.
fn lines(
    text: &str,
    when: When,
    size: Option<(usize, usize)>,
    color: bool,
) -> Result<Vec<String>, String> {
    if when == When::Auto && !color {
        return Err("needs colours, or --qr always".to_owned());
    }
    let picture = Code::new(text)?.cells();
    if let Some((cols, rows)) = size {
        let height = |text: &str| text.len().div_ceil(cols);
        let needed = height(CAPTION) + picture.rows.len() + height(PROMPT);
        if picture.cols > cols {
            return Err(format!("needs {} columns", picture.cols));
        }
        // One that is too high can be scrolled to; one that is too wide is broken.
        if needed > rows && when == When::Auto {
            return Err(format!("needs {needed} rows"));
        }
    }
    Ok(std::iter::once(CAPTION.to_owned())
        .chain(picture.rows)
        .collect())
}

/// The value of `--qr-file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QrFile {
    path: PathBuf,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Png,
    Svg,
}

impl FromStr for QrFile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = PathBuf::from(text);
        let end = path.extension().unwrap_or_default().to_ascii_lowercase();
        let format = match end.to_str() {
            Some("png") => Format::Png,
            Some("svg") => Format::Svg,
            _ => return Err("its name has to end in .png or .svg"),
        };
        Ok(Self { path, format })
    }
}

impl QrFile {
    /// Makes sure that it can be written, before anything touches the network.
    ///
    /// # Errors
    /// Something is there, or nothing can be written there.
    pub fn plan(&self) -> Result<Picture, Failure> {
        Ok(Picture {
            file: OwnFile::plan(&self.path).map_err(failure)?,
            format: self.format,
        })
    }
}

/// A file with the invite as a QR code. The invite is a key, so the file is its owner's alone.
#[derive(Debug)]
pub struct Picture {
    file: OwnFile,
    format: Format,
}

impl Picture {
    /// Writes an invite; one that was written before is replaced.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, text: &str, ctx: &Ctx) -> Result<(), Failure> {
        let failed = |why: String| Failure::incomplete(format!("cannot draw the invite: {why}"));
        let code = Code::new(text).map_err(failed)?;
        let bytes = match self.format {
            Format::Png => code.png().map_err(failed)?,
            Format::Svg => code.svg().into_bytes(),
        };
        self.file.write(&bytes).map_err(failure)?;
        let path = self.file.path();
        ctx.ui.note(&format!("the invite as a QR code: {path:?}"));
        Ok(())
    }
}

fn failure(error: FileError) -> Failure {
    let message = format!("--qr-file: {error}");
    let failure = match error.kind() {
        FileErrorKind::Usage | FileErrorKind::Exists => Failure::usage(message),
        _ => Failure::incomplete(message),
    };
    let hint = error.hint().unwrap_or("name another file");
    failure.kind(error.kind().as_str()).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "KH10123456789ABCDEFGHJKMNPQRSTVWXYZ";

    #[test]
    fn a_picture_is_shown_where_it_fits_with_what_stands_around_it() {
        assert!(lines(TOKEN, When::Auto, Some((80, 24)), true).is_ok());
        assert!(lines(TOKEN, When::Always, None, true).is_ok());
        // The usual invite, and one with an IPv6 address.
        for (symbols, cols, rows) in [(114, 80, 21), (114, 37, 23), (154, 80, 23), (154, 41, 25)] {
            let token = "KH1".repeat(60)[..symbols].to_owned();
            let fits = |cols, rows| lines(&token, When::Auto, Some((cols, rows)), true).is_ok();
            assert!(fits(cols, rows), "{symbols} in {cols}x{rows}");
            assert!(!fits(cols, rows - 1), "{symbols} in {cols}x{rows}");
        }
    }

    #[test]
    fn a_picture_that_does_not_fit_is_refused_in_one_line() {
        let narrow = lines(TOKEN, When::Auto, Some((20, 24)), true).unwrap_err();
        assert_eq!(narrow, "needs 29 columns");
        let low = lines(TOKEN, When::Auto, Some((80, 10)), true).unwrap_err();
        assert_eq!(low, "needs 17 rows");
        assert!(
            lines(TOKEN, When::Always, Some((20, 24)), true).is_err(),
            "it would be broken"
        );
        assert!(
            lines(TOKEN, When::Always, Some((80, 10)), true).is_ok(),
            "it can be scrolled to"
        );
    }

    #[test]
    fn without_colours_a_picture_has_to_be_asked_for() {
        assert!(lines(TOKEN, When::Auto, Some((80, 24)), false).is_err());
        assert!(lines(TOKEN, When::Always, Some((80, 24)), false).is_ok());
    }

    #[test]
    fn the_name_of_a_file_says_its_format() {
        let format = |name: &str| name.parse::<QrFile>().map(|file| file.format);
        assert_eq!(format("a/b.c/invite.png"), Ok(Format::Png));
        assert_eq!(format("INVITE.SVG"), Ok(Format::Svg));
        for name in ["invite", "invite.jpg", ".png", "png", ""] {
            assert!(format(name).is_err(), "{name}");
        }
    }
}

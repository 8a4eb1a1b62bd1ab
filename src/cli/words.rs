//! The comparison of words (`--verify`), put to a person.

use super::failure::Failure;
use super::input;
use super::ui::{self, Ctx};
use crate::io::transfer::Compared;
use crate::proto::app::Words;
use crate::report::human;
use crate::report::model::Event;

/// Shows the words of a link and asks whether the other screen shows the same. `ours`: it is this
/// side's wish.
pub async fn compare(words: Words, ours: bool, ctx: &Ctx) -> Compared {
    match ask(words, ours, ctx).await {
        Ok(Some(true)) => {
            ctx.ui.phase("waiting for the other side");
            Compared::Same
        }
        Ok(Some(false)) => Compared::Differ,
        Ok(None) => Compared::Nobody,
        // Whoever stopped the run ends the link too, with a better reason than this one.
        Err(_) if ctx.stop.now().is_some() => std::future::pending().await,
        Err(failure) => {
            ctx.ui.warn(&failure.message);
            Compared::Nobody
        }
    }
}

async fn ask(words: Words, ours: bool, ctx: &Ctx) -> Result<Option<bool>, Failure> {
    ctx.ui.end_phase();
    ctx.ui.event(&Event::Words {
        words: words.map(str::to_owned).to_vec(),
    })?;
    let why = if ours {
        "Read these words to each other:"
    } else {
        "The other side wants to compare words:"
    };
    let list = human::numbered(&words, ui::width());
    let question = format!("{why}\n{list}\nThe same on both screens?");
    input::confirm(&question, false, ctx).await
}

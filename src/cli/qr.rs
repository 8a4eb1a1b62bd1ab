//! Shows a token as a QR code on stderr, where it fits and makes sense.

use super::ui::{self, Ui, When};
use crate::report::qr;

/// Lines that must stay free beside the picture: the token and the words around it.
const SPARE_ROWS: usize = 2;

/// Shows `text` as a QR code, or says in one line why not.
pub fn show(ui: &Ui, text: &str, when: When) {
    let size = ui::terminal_size();
    let wanted = match when {
        When::Never => false,
        When::Always => true,
        When::Auto => size.is_some() && !ui.json(),
    };
    if !wanted {
        return;
    }
    match picture(text, when, size, ui.err().is_on()) {
        Ok(rows) => ui.block(&rows),
        Err(why) => ui.note(&ui.err().dim(&format!("(no QR code: {why})"))),
    }
}

fn picture(
    text: &str,
    when: When,
    size: Option<(usize, usize)>,
    color: bool,
) -> Result<Vec<String>, String> {
    if when == When::Auto && !color {
        return Err("it needs colours; --qr always shows it anyway".to_owned());
    }
    let picture = qr::render(text)?;
    if let Some((cols, rows)) = size {
        let needed = picture.rows.len() + SPARE_ROWS;
        // A picture that is too high can be scrolled to; one that is too wide is broken.
        if picture.cols > cols || (needed > rows && when == When::Auto) {
            let (width, cols_rows) = (picture.cols, format!("{cols}x{rows}"));
            return Err(format!(
                "it needs {width}x{needed} characters, this terminal has {cols_rows}"
            ));
        }
    }
    Ok(picture.rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "KH10123456789ABCDEFGHJKMNPQRSTVWXYZ";

    #[test]
    fn a_picture_is_shown_where_it_fits() {
        assert!(picture(TOKEN, When::Auto, Some((80, 24)), true).is_ok());
        assert!(picture(TOKEN, When::Always, None, true).is_ok());
    }

    #[test]
    fn a_picture_that_does_not_fit_is_refused_in_one_line() {
        let narrow = picture(TOKEN, When::Auto, Some((20, 24)), true).unwrap_err();
        assert!(narrow.contains("this terminal has 20x24"), "{narrow}");
        assert!(picture(TOKEN, When::Auto, Some((80, 10)), true).is_err());
        assert!(
            picture(TOKEN, When::Always, Some((20, 24)), true).is_err(),
            "it would be broken"
        );
        assert!(
            picture(TOKEN, When::Always, Some((80, 10)), true).is_ok(),
            "it can be scrolled to"
        );
        assert!(!narrow.contains('\n'));
    }

    #[test]
    fn without_colours_a_picture_has_to_be_asked_for() {
        assert!(picture(TOKEN, When::Auto, Some((80, 24)), false).is_err());
        assert!(picture(TOKEN, When::Always, Some((80, 24)), false).is_ok());
    }
}

//! A token as a QR code in text: two modules a character (half blocks), black and white painted
//! explicitly so that it scans on dark and on light terminals.

use qrcode::{Color, EcLevel, QrCode};

/// Modules of white on every side. The standard asks for 4; 2 scans, and saves rows.
const QUIET: usize = 2;

/// A picture made of terminal cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Its width in columns.
    pub cols: usize,
    /// Its lines, without line ends; every one starts and ends with the terminal's own colours.
    pub rows: Vec<String>,
}

/// Renders `text` at level L, in the smallest version that holds it.
///
/// # Errors
/// The text is longer than a QR code can hold.
pub fn render(text: &str) -> Result<Picture, String> {
    // Level L: a screen is not a crumpled label, and a smaller version fits more terminals.
    let code = QrCode::with_error_correction_level(text, EcLevel::L)
        .map_err(|_| "it is too long for a QR code".to_owned())?;
    let side = code.width();
    let colors = code.to_colors();
    let dark = |x: usize, y: usize| {
        let inside = (QUIET..QUIET + side).contains(&x) && (QUIET..QUIET + side).contains(&y);
        inside && colors[(y - QUIET) * side + (x - QUIET)] == Color::Dark
    };
    let cols = side + 2 * QUIET;
    let rows = (0..cols)
        .step_by(2)
        .map(|y| {
            let mut row = String::new();
            let mut painted = None;
            for x in 0..cols {
                // The upper half is the foreground, the lower half the background. The side is
                // odd, so the last row's lower half is one more line of white.
                let pair = (dark(x, y), dark(x, y + 1));
                if painted != Some(pair) {
                    // True black and white by number: the named colours are grey or cream in
                    // many themes, and the bright ones are bold in others.
                    let ink = |dark: bool| if dark { 16 } else { 231 };
                    row += &format!("\x1b[38;5;{};48;5;{}m", ink(pair.0), ink(pair.1));
                    painted = Some(pair);
                }
                row.push('▀');
            }
            row + "\x1b[0m"
        })
        .collect();
    Ok(Picture { cols, rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Paints the text on a canvas as a terminal would, then reads it with another decoder.
    fn scan(picture: &Picture) -> String {
        let height = picture.rows.len() * 2;
        let mut canvas = vec![None; picture.cols * height];
        for (row, line) in picture.rows.iter().enumerate() {
            let (mut upper, mut lower) = (None, None);
            let mut x = 0;
            let mut chars = line.chars();
            while let Some(c) = chars.next() {
                if c == '\x1b' {
                    assert_eq!(chars.next(), Some('['));
                    let codes: String = chars.by_ref().take_while(|c| *c != 'm').collect();
                    let ink = |code: &str| match code {
                        "16" => Some(true),
                        "231" => Some(false),
                        _ => panic!("a colour that is neither black nor white: {code}"),
                    };
                    match codes.split(';').collect::<Vec<_>>()[..] {
                        ["0"] => (upper, lower) = (None, None),
                        ["38", "5", fg, "48", "5", bg] => (upper, lower) = (ink(fg), ink(bg)),
                        _ => panic!("{codes}"),
                    }
                } else {
                    assert_eq!(c, '▀');
                    canvas[2 * row * picture.cols + x] = upper;
                    canvas[(2 * row + 1) * picture.cols + x] = lower;
                    x += 1;
                }
            }
            assert_eq!(x, picture.cols);
            assert_eq!(
                (upper, lower),
                (None, None),
                "colours leak out of the picture"
            );
        }
        assert!(
            canvas.iter().all(Option::is_some),
            "a cell is left to the theme"
        );
        let zoom = 4;
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(
            picture.cols * zoom,
            height * zoom,
            |x, y| {
                if canvas[y / zoom * picture.cols + x / zoom] == Some(true) {
                    0
                } else {
                    255
                }
            },
        );
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    #[test]
    fn the_usual_invite_fits_80_by_24() {
        // Version 4 at level L holds 114 alphanumeric characters.
        let token = "KH1".to_owned() + &"0123456789ABCDEFGHJKMNPQRSTVWXYZ".repeat(4)[..107];
        let picture = render(&token).unwrap();
        assert_eq!((picture.rows.len(), picture.cols), (19, 37));
        assert_eq!(scan(&picture), token);
    }

    #[test]
    fn what_no_qr_code_can_hold_is_refused() {
        assert!(render(&"A".repeat(5000)).unwrap_err().contains("too long"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn every_token_can_be_scanned(token in "[0-9A-HJKMNP-TV-Z]{12,250}") {
            prop_assert_eq!(scan(&render(&token).unwrap()), token);
        }
    }
}

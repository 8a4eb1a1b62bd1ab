//! A token as a QR code: in text for a terminal, and as a PNG or SVG picture.
//!
//! In text, two modules are a character (half blocks), black and white painted explicitly so that
//! it scans on dark and on light terminals.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use qrcode::bits::Bits;
use qrcode::render::svg;
use qrcode::{Color, EcLevel, QrCode, Version};

/// Modules of white on every side on a terminal. The standard asks for 4; 2 scans, and saves rows.
const QUIET: usize = 2;
/// The same in a picture, where there is room for what the standard asks.
const PICTURE_QUIET: usize = 4;
/// Pixels of a module in a picture: enough to be scanned from a screen, also when shrunk by half.
const PIXELS: usize = 10;

/// A text as a QR code, at level L and in the smallest version that holds it.
pub struct Code(QrCode);

/// A picture made of terminal cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cells {
    /// Its width in columns.
    pub cols: usize,
    /// Its lines, without line ends; every one starts and ends with the terminal's own colours.
    pub rows: Vec<String>,
}

impl Code {
    /// Makes the code.
    ///
    /// # Errors
    /// The text is longer than a QR code can hold.
    pub fn new(text: &str) -> Result<Self, String> {
        // Level L: a screen is not a crumpled label, and a smaller version fits more terminals.
        // One alphanumeric segment, for the crate's own choice of segments does not always pay
        // for its headers, and an invite must not need a larger version than its length says.
        let in_version = |version| {
            let mut bits = Bits::new(Version::Normal(version));
            bits.push_alphanumeric_data(text.as_bytes()).ok()?;
            bits.push_terminator(EcLevel::L).ok()?;
            QrCode::with_bits(bits, EcLevel::L).ok()
        };
        let plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
        let code = if text.bytes().all(plain) {
            (1..=40).find_map(in_version)
        } else {
            QrCode::with_error_correction_level(text, EcLevel::L).ok()
        };
        code.map(Self)
            .ok_or_else(|| "cannot hold a text of this length".to_owned())
    }

    /// Renders it for a terminal.
    #[must_use]
    pub fn cells(&self) -> Cells {
        let cols = self.0.width() + 2 * QUIET;
        let rows = (0..cols)
            .step_by(2)
            .map(|y| {
                let mut row = String::new();
                let mut painted = None;
                for x in 0..cols {
                    // The side is odd, so the last row's lower half is one more line of white.
                    let pair = (self.dark(x, y, QUIET), self.dark(x, y + 1, QUIET));
                    if painted != Some(pair) {
                        // True black and white by number: the named colours are grey or cream in
                        // many themes, and the bright ones are bold in others.
                        let ink = |dark: bool| if dark { 16 } else { 231 };
                        row += &format!("\x1b[38;5;{};48;5;{}m", ink(pair.0), ink(pair.1));
                        painted = Some(pair);
                    }
                    // No glyph where none is needed: terminals that keep a minimum of contrast
                    // would recolour a block that is drawn in its own background.
                    row.push(if pair.0 == pair.1 { ' ' } else { '▀' });
                }
                row + "\x1b[0m"
            })
            .collect();
        Cells { cols, rows }
    }

    /// Renders it as an SVG document.
    #[must_use]
    pub fn svg(&self) -> String {
        let side = PIXELS as u32;
        self.0
            .render::<svg::Color<'_>>()
            .module_dimensions(side, side)
            .build()
    }

    /// Renders it as a PNG file.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn png(&self) -> Result<Vec<u8>, String> {
        let side = (self.0.width() + 2 * PICTURE_QUIET) * PIXELS;
        let pixels: Vec<u8> = (0..side * side)
            .map(|at| {
                let (x, y) = (at % side / PIXELS, at / side / PIXELS);
                if self.dark(x, y, PICTURE_QUIET) {
                    0
                } else {
                    255
                }
            })
            .collect();
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(&pixels, side as u32, side as u32, ExtendedColorType::L8)
            .map_err(|error| error.to_string())?;
        Ok(png)
    }

    /// Whether a module is dark, counted from the corner of a margin of `quiet` modules.
    fn dark(&self, x: usize, y: usize, quiet: usize) -> bool {
        let inside = quiet..quiet + self.0.width();
        inside.contains(&x) && inside.contains(&y) && self.0[(x - quiet, y - quiet)] == Color::Dark
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a grey picture with a decoder that the program itself does not use.
    fn scan(width: usize, grey: &[u8]) -> String {
        let mut decoder = quircs::Quirc::default();
        let codes: Vec<_> = decoder
            .identify(width, grey.len() / width, grey)
            .map(|code| code.unwrap().decode().unwrap().payload)
            .collect();
        assert_eq!(codes.len(), 1);
        String::from_utf8(codes[0].clone()).unwrap()
    }

    /// Paints the cells on a canvas as a terminal would, with `theme` where nothing was painted.
    fn paint(picture: &Cells, theme: u8) -> (usize, Vec<u8>) {
        const ZOOM: usize = 4;
        const MARGIN: usize = 3;
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
                        "16" => Some(0),
                        "231" => Some(255),
                        _ => panic!("a colour that is neither black nor white: {code}"),
                    };
                    match codes.split(';').collect::<Vec<_>>()[..] {
                        ["0"] => (upper, lower) = (None, None),
                        ["38", "5", fg, "48", "5", bg] => (upper, lower) = (ink(fg), ink(bg)),
                        _ => panic!("{codes}"),
                    }
                } else {
                    assert_eq!(c, if upper == lower { ' ' } else { '▀' });
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
        let width = (picture.cols + 2 * MARGIN) * ZOOM;
        let grey = (0..width * (height + 2 * MARGIN) * ZOOM)
            .map(|at| {
                let x = (at % width / ZOOM).wrapping_sub(MARGIN);
                let y = (at / width / ZOOM).wrapping_sub(MARGIN);
                let inside = x < picture.cols && y < height;
                inside
                    .then(|| canvas[y * picture.cols + x])
                    .flatten()
                    .unwrap_or(theme)
            })
            .collect();
        (width, grey)
    }

    fn token(symbols: usize) -> String {
        "KH".to_owned() + &"0123456789ABCDEFGHJKMNPQRSTVWXYZ".repeat(6)[..symbols - 2]
    }

    #[test]
    fn the_usual_invites_fit_80_by_24() {
        // Versions 4 and 5 at level L hold 114 and 154 alphanumeric characters.
        for (symbols, rows, cols) in [(114, 19, 37), (154, 21, 41)] {
            let token = token(symbols);
            let cells = Code::new(&token).unwrap().cells();
            assert_eq!((cells.rows.len(), cells.cols), (rows, cols));
            for theme in [0, 255] {
                let (width, grey) = paint(&cells, theme);
                assert_eq!(scan(width, &grey), token);
            }
        }
    }

    #[test]
    fn a_png_is_read_by_another_decoder() {
        let png = Code::new(&token(112)).unwrap().png().unwrap();
        let picture = image::load_from_memory(&png).unwrap().into_luma8();
        assert_eq!(picture.dimensions(), (410, 410));
        assert_eq!(scan(410, &picture), token(112));
    }

    #[test]
    fn an_svg_draws_the_same_modules() {
        let code = Code::new(&token(112)).unwrap();
        let svg = code.svg();
        assert!(svg.contains(r#"width="410" height="410""#));
        // Each dark run is one rectangle of the path: `M left top h width v height …`.
        let mut grey = vec![255; 410 * 410];
        let path = svg
            .split(" d=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        for rectangle in path.split('M').skip(1) {
            let numbers: Vec<usize> = rectangle
                .split(['h', 'v', 'H', 'V', ' '])
                .map(|number| number.parse().unwrap())
                .collect();
            for y in numbers[1]..numbers[1] + numbers[3] {
                for x in numbers[0]..numbers[0] + numbers[2] {
                    grey[y * 410 + x] = 0;
                }
            }
        }
        assert_eq!(scan(410, &grey), token(112));
    }

    #[test]
    fn any_text_can_be_a_code() {
        for text in ["https://example.org/#kh", "kh", "", "ä"] {
            let (width, grey) = paint(&Code::new(text).unwrap().cells(), 0);
            assert_eq!(scan(width, &grey), text);
        }
    }

    #[test]
    fn what_no_qr_code_can_hold_is_refused() {
        let error = Code::new(&"A".repeat(5000)).err().unwrap();
        assert!(error.contains("cannot hold"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn every_token_can_be_scanned(token in "[0-9A-HJKMNP-TV-Z]{12,250}") {
            let (width, grey) = paint(&Code::new(&token).unwrap().cells(), 0);
            prop_assert_eq!(scan(width, &grey), token);
        }
    }
}

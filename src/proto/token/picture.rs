//! An invite in a picture: a QR code in a screenshot, a photo, or a file that `--qr-file` wrote.
//!
//! The picture is hostile: its size is known before it is decoded, and memory is bounded. What a
//! QR code says is searched for an invite as any pasted text is, so a link with one in it will do.

use std::fmt;
use std::io::Cursor;

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, Limits, Luma};

use super::{TokenError, parse_invite};

/// The largest file that is looked at, in bytes.
pub const MAX_PICTURE: usize = 32 << 20;
/// The largest picture, in pixels: what the cameras of telephones make.
const MAX_PIXELS: u64 = 64_000_000;
/// Memory for decoding it, in bytes.
const MAX_MEMORY: u64 = 256 << 20;
/// Lengths of the longer side, in pixels, at which codes are looked for. The first suits a code
/// that fills the picture and takes the noise of a camera away; the second is for small codes.
const SIDES: [u32; 3] = [1200, 3000, 500];
/// A smaller picture is also looked at enlarged: its modules may be a pixel or two.
const SMALL: u32 = 800;

/// Why there is no invite in a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PictureError {
    /// Neither PNG nor JPEG.
    NotAPicture,
    /// PNG or JPEG that cannot be decoded; says why. May repeat text from the file.
    Broken(String),
    /// More than [`MAX_PIXELS`], or too much for memory.
    TooLarge,
    /// No QR code was found.
    NoCode,
    /// There is a QR code, and this is all it says.
    NotAnInvite(String),
    /// There are this many different invites.
    Several(usize),
}

impl PictureError {
    /// Says what to try next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotAPicture | Self::Broken(_) => {
                "give a PNG or JPEG file, such as a screenshot or a photo"
            }
            Self::TooLarge => "make it smaller, or cut the QR code out of it",
            Self::NoCode => {
                "cut the picture to the QR code and some white around it, or take a sharper one"
            }
            Self::NotAnInvite(_) => "give the picture of an invite that knothole shows",
            Self::Several(_) => "cut the one that you mean out of the picture",
        }
    }
}

impl fmt::Display for PictureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPicture => f.write_str("it is neither PNG nor JPEG"),
            Self::Broken(_) => f.write_str("it cannot be decoded"),
            Self::TooLarge => f.write_str("it is too large"),
            Self::NoCode => f.write_str("no QR code was found in it"),
            Self::NotAnInvite(_) => f.write_str("its QR code is no invite"),
            Self::Several(count) => write!(f, "there are {count} different invites in it"),
        }
    }
}

impl std::error::Error for PictureError {}

/// Finds the invite in the bytes of a PNG or JPEG file, and returns what its QR code says. That
/// is a text with an invite in it, or with something so close that parsing it tells the mistake.
///
/// # Errors
/// It is no picture, or has no invite, or more than one.
pub fn read(bytes: &[u8]) -> Result<String, PictureError> {
    let mut seen: Vec<String> = Vec::new();
    for grey in greys(decode(bytes)?) {
        for picture in sizes(&grey) {
            for inverted in [false, true] {
                seen.extend(codes(&picture, inverted));
                if let Some(invite) = choose(&seen)? {
                    return Ok(invite);
                }
            }
        }
    }
    // An invite of a newer version, a reply code: whoever parses it says more than we can.
    let near = seen.iter().position(|text| {
        !matches!(
            parse_invite(text),
            Err(TokenError::NotAToken | TokenError::Empty | TokenError::TooLong)
        )
    });
    match (near, seen.is_empty()) {
        (_, true) => Err(PictureError::NoCode),
        (Some(near), _) => Ok(seen.swap_remove(near)),
        (None, _) => Err(PictureError::NotAnInvite(seen.swap_remove(0))),
    }
}

/// The text with an invite among `texts`.
fn choose(texts: &[String]) -> Result<Option<String>, PictureError> {
    let mut found: Vec<(String, &String)> = Vec::new();
    for text in texts {
        if let Ok(invite) = parse_invite(text) {
            let written = invite.encode();
            if found.iter().all(|(other, _)| *other != written) {
                found.push((written, text));
            }
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [(_, text)] => Ok(Some((*text).clone())),
        more => Err(PictureError::Several(more.len())),
    }
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, PictureError> {
    let broken = |error: image::ImageError| match error {
        image::ImageError::Limits(_) => PictureError::TooLarge,
        error => PictureError::Broken(error.to_string()),
    };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| PictureError::Broken(error.to_string()))?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        return Err(PictureError::NotAPicture);
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || decoder.total_bytes() > MAX_MEMORY {
        return Err(PictureError::TooLarge);
    }
    DynamicImage::from_decoder(decoder).map_err(broken)
}

/// The picture in grey. One that is transparent is laid on white, and on black: which of the two
/// it was drawn for is not in the file.
fn greys(picture: DynamicImage) -> Vec<GrayImage> {
    if !picture.color().has_alpha() {
        return vec![picture.into_luma8()];
    }
    let picture = picture.into_luma_alpha8();
    let on = |ground: u16| {
        GrayImage::from_fn(picture.width(), picture.height(), |x, y| {
            let [grey, alpha] = picture.get_pixel(x, y).0.map(u16::from);
            let mixed = (grey * alpha + ground * (255 - alpha)) / 255;
            Luma([u8::try_from(mixed).unwrap_or(u8::MAX)])
        })
    };
    vec![on(255), on(0)]
}

/// The picture in the sizes at which codes are looked for.
fn sizes(picture: &GrayImage) -> impl Iterator<Item = GrayImage> {
    let (width, height) = picture.dimensions();
    let side = width.max(height);
    let smaller = move |to: u32| {
        let scale = |length: u32| {
            let length = u64::from(length) * u64::from(to) / u64::from(side.max(1));
            u32::try_from(length).unwrap_or(to).max(1)
        };
        imageops::thumbnail(picture, scale(width), scale(height))
    };
    let first = side.min(SIDES[0]);
    let others = SIDES[1..].iter().copied().filter(move |to| *to < side);
    let whole = (side > SIDES[0] && side < SIDES[1]).then_some(side);
    let enlarged = (side < SMALL)
        .then(move || imageops::resize(picture, width * 3, height * 3, FilterType::Nearest));
    std::iter::once(first)
        .chain(whole)
        .chain(others)
        .map(move |to| {
            if to == side {
                picture.clone()
            } else {
                smaller(to)
            }
        })
        .chain(enlarged)
}

/// What the QR codes in the picture say.
fn codes(picture: &GrayImage, inverted: bool) -> Vec<String> {
    let (width, height) = picture.dimensions();
    if width == 0 || height == 0 {
        return Vec::new();
    }
    let pixels = picture.as_raw();
    let width = width as usize;
    let mut prepared =
        rqrr::PreparedImage::prepare_from_greyscale(width, height as usize, |x, y| {
            let grey = pixels[y * width + x];
            if inverted { !grey } else { grey }
        });
    prepared
        .detect_grids()
        .iter()
        .filter_map(|grid| {
            let mut text = Vec::new();
            grid.decode_to(&mut text).ok()?;
            Some(String::from_utf8_lossy(&text).into_owned())
        })
        .collect()
}

/// What the fuzzer runs: as a file, and as the pixels of a picture.
///
/// # Panics
/// When the reader does.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let _ = read(data);
    let Some((width, pixels)) = data.split_first() else {
        return;
    };
    let width = u32::from(*width).max(1);
    let height = u32::try_from(pixels.len()).unwrap_or(0) / width;
    let pixels = pixels[..(width * height) as usize].to_vec();
    if let Some(picture) = GrayImage::from_raw(width, height, pixels) {
        for inverted in [false, true] {
            let _ = choose(&codes(&picture, inverted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::token::invite::tests::TWO_PORTS;
    use crate::proto::token::{Candidate, Kind, Reply};
    use image::{DynamicImage, LumaA};
    use proptest::prelude::*;
    use qrcode::{Color, EcLevel, QrCode};

    /// A picture of `text` with `zoom` pixels a module and the quiet zone of a terminal.
    fn draw(text: &str, zoom: u32) -> GrayImage {
        let code = QrCode::with_error_correction_level(text, EcLevel::L).unwrap();
        let side = code.width() as u32;
        GrayImage::from_fn((side + 4) * zoom, (side + 4) * zoom, |x, y| {
            let (x, y) = ((x / zoom).wrapping_sub(2), (y / zoom).wrapping_sub(2));
            let dark = x < side && y < side && code[(x as usize, y as usize)] == Color::Dark;
            Luma([if dark { 0 } else { 255 }])
        })
    }

    fn file(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
        file(picture, ImageFormat::Png)
    }

    /// How a photo differs from what it shows.
    #[derive(Clone, Copy, Debug)]
    struct Camera {
        /// Pixels of a pixel.
        zoom: f64,
        /// In radians.
        turn: f64,
        /// Seen from the side: how much nearer one edge is than the middle.
        lean: (f64, f64),
        /// How much darker one edge is than the middle.
        shade: (f64, f64),
        /// Grey levels that a pixel may be off.
        noise: f64,
        /// In pixels.
        blur: f32,
    }

    const STEADY: Camera = Camera {
        zoom: 1.0,
        turn: 0.0,
        lean: (0.0, 0.0),
        shade: (0.0, 0.0),
        noise: 0.0,
        blur: 0.0,
    };

    /// A photo of the picture in front of something grey.
    #[allow(clippy::cast_sign_loss, reason = "coordinates inside the picture")]
    fn photo(picture: &GrayImage, camera: Camera) -> GrayImage {
        let side = f64::from(picture.width()) * camera.zoom * 1.7;
        let (sin, cos) = camera.turn.sin_cos();
        let mut random = 1u32;
        let photo = GrayImage::from_fn(side as u32, side as u32, |x, y| {
            let (x, y) = (
                f64::from(x) / side * 2.0 - 1.0,
                f64::from(y) / side * 2.0 - 1.0,
            );
            let depth = 1.0 + camera.lean.0 * x + camera.lean.1 * y;
            let at = |along: f64| {
                (along / depth * side / 2.0 / camera.zoom + f64::from(picture.width()) / 2.0)
                    .floor()
            };
            let (u, v) = (at(x * cos + y * sin), at(y * cos - x * sin));
            let inside = |at: f64| (0.0..f64::from(picture.width())).contains(&at);
            let grey = if inside(u) && inside(v) {
                40.0 + 0.7 * f64::from(picture.get_pixel(u as u32, v as u32)[0])
            } else {
                140.0
            };
            let light = 1.0 - camera.shade.0 * x - camera.shade.1 * y;
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = camera.noise * (f64::from(random >> 8) / f64::from(1 << 23) - 1.0);
            Luma([(grey * light + noise).clamp(0.0, 255.0) as u8])
        });
        if camera.blur > 0.0 {
            imageops::blur(&photo, camera.blur)
        } else {
            photo
        }
    }

    fn reads(picture: impl Into<DynamicImage>) -> Result<String, PictureError> {
        read(&png(picture))
    }

    #[test]
    fn screenshots_are_read_in_any_size_and_either_polarity() {
        for zoom in [1, 2, 3, 5, 8, 16, 30] {
            let picture = draw(TWO_PORTS, zoom);
            assert_eq!(reads(picture.clone()).as_deref(), Ok(TWO_PORTS), "{zoom}");
            let mut inverted = picture;
            imageops::invert(&mut inverted);
            assert_eq!(
                reads(inverted).as_deref(),
                Ok(TWO_PORTS),
                "{zoom}, inverted"
            );
        }
    }

    #[test]
    fn a_small_code_on_a_large_screen_is_found() {
        let mut screen = GrayImage::from_pixel(2560, 1440, Luma([20]));
        imageops::replace(&mut screen, &draw(TWO_PORTS, 3), 1900, 900);
        assert_eq!(reads(screen).as_deref(), Ok(TWO_PORTS));
    }

    #[test]
    fn photos_are_read() {
        let turned = |turn| Camera { turn, ..STEADY };
        for camera in [
            turned(0.5),
            turned(3.0),
            Camera {
                lean: (0.15, -0.1),
                ..turned(0.2)
            },
            Camera {
                shade: (0.5, 0.3),
                ..turned(-0.3)
            },
            Camera {
                noise: 40.0,
                ..turned(1.0)
            },
            Camera {
                blur: 2.5,
                ..turned(2.0)
            },
            Camera {
                zoom: 2.0,
                lean: (0.1, 0.1),
                shade: (0.3, -0.3),
                noise: 30.0,
                blur: 2.0,
                ..turned(0.1)
            },
        ] {
            let photo = photo(&draw(TWO_PORTS, 8), camera);
            let jpeg = file(photo, ImageFormat::Jpeg);
            assert_eq!(read(&jpeg).as_deref(), Ok(TWO_PORTS), "{camera:?}");
        }
    }

    /// No decoder reads every picture; one that a person takes with some care is nearly always read.
    #[test]
    fn a_steady_hand_is_enough() {
        let poses = (0..16).map(|pose| {
            let part = |step: i32| f64::from(pose * step % 17) / 17.0 - 0.5;
            Camera {
                zoom: 1.2 + part(7) * 0.4,
                turn: f64::from(pose) * 0.393,
                lean: (part(11) * 0.16, part(5) * 0.16),
                shade: (part(3) * 0.4, part(13) * 0.4),
                noise: 10.0 + part(15) * 10.0,
                blur: 0.8,
            }
        });
        let code = draw(TWO_PORTS, 5);
        let read = |camera: Camera| reads(photo(&code, camera)).is_ok();
        let read = poses.filter(|camera| read(*camera)).count();
        assert!(read >= 14, "{read} of 16");
    }

    #[test]
    fn a_transparent_picture_is_read_whatever_it_was_drawn_for() {
        for ink in [0, 255] {
            let code = draw(TWO_PORTS, 6);
            let picture = image::ImageBuffer::from_fn(code.width(), code.height(), |x, y| {
                LumaA([ink, 255 - code.get_pixel(x, y)[0]])
            });
            assert_eq!(reads(picture).as_deref(), Ok(TWO_PORTS), "{ink}");
        }
    }

    #[test]
    fn the_invite_among_several_codes_is_taken_and_two_are_one_too_many() {
        let beside = |texts: &[&str]| {
            let mut screen = GrayImage::from_pixel(900, 500, Luma([200]));
            for (text, x) in texts.iter().zip([20, 450]) {
                imageops::replace(&mut screen, &draw(text, 8), x, 60);
            }
            reads(screen)
        };
        let link = format!("https://example.org/j#{TWO_PORTS}");
        let other = "https://example.org/menu";
        assert_eq!(beside(&[other, TWO_PORTS]).as_deref(), Ok(TWO_PORTS));
        assert_eq!(beside(&[&link, other]).as_deref(), Ok(link.as_str()));
        assert_eq!(
            beside(&[TWO_PORTS, &link]).as_deref(),
            Ok(TWO_PORTS),
            "the same one twice"
        );
        let mut invite = parse_invite(TWO_PORTS).unwrap();
        invite.issued += 60;
        assert_eq!(
            beside(&[TWO_PORTS, &invite.encode()]),
            Err(PictureError::Several(2))
        );
    }

    #[test]
    fn what_is_no_invite_is_said() {
        let blank = GrayImage::from_pixel(300, 300, Luma([255]));
        assert_eq!(reads(blank), Err(PictureError::NoCode));
        let menu = "https://example.org/menu";
        assert_eq!(
            reads(draw(menu, 6)),
            Err(PictureError::NotAnInvite(menu.to_owned()))
        );
        // What parsing explains better is left to it.
        let addr = "203.0.113.7:61000".parse().unwrap();
        let reply = Reply::new(vec![Candidate::new(Kind::Srflx, addr)]).unwrap();
        assert_eq!(reads(draw(&reply.encode(), 6)), Ok(reply.encode()));
        let typo = TWO_PORTS.replacen('7', "8", 1);
        assert_eq!(reads(draw(&typo, 6)), Ok(typo));
    }

    #[test]
    fn what_is_no_picture_is_said() {
        for bytes in [&b""[..], b"KH", b"GIF89a\x01\0\x01\0", b"<svg/>", &[0; 100]] {
            assert_eq!(read(bytes), Err(PictureError::NotAPicture), "{bytes:?}");
        }
        let whole = png(draw(TWO_PORTS, 4));
        for cut in [9, 20, 60] {
            assert!(
                matches!(read(&whole[..cut]), Err(PictureError::Broken(_))),
                "{cut}"
            );
        }
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        // 100 million pixels of nothing are 100 kB.
        let mut bomb = png(GrayImage::new(16, 16));
        let claim = |bomb: &mut Vec<u8>, side: u32| {
            bomb[16..20].copy_from_slice(&side.to_be_bytes());
            bomb[20..24].copy_from_slice(&side.to_be_bytes());
            let sum = crc32(&bomb[12..29]);
            bomb[29..33].copy_from_slice(&sum.to_be_bytes());
        };
        for side in [10_000, 60_000, i32::MAX as u32] {
            claim(&mut bomb, side);
            assert_eq!(read(&bomb), Err(PictureError::TooLarge), "{side}");
        }
        // The sum is right: a size that is allowed is looked at.
        claim(&mut bomb, 15);
        assert_eq!(read(&bomb), Err(PictureError::NoCode));
    }

    /// The sum at the end of a chunk of PNG.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                (sum >> 1) ^ (0xedb8_8320 * (sum & 1))
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4))]

        #[test]
        fn no_file_makes_the_reader_panic(bytes: Vec<u8>, at in 0usize..2000, cut in 0usize..2000, byte: u8) {
            fuzz(&bytes);
            for format in [ImageFormat::Png, ImageFormat::Jpeg] {
                let mut file = file(draw(TWO_PORTS, 2), format);
                let len = file.len();
                file[at % len] = byte;
                fuzz(&file);
                file.truncate(cut % len);
                fuzz(&file);
            }
        }

        #[test]
        fn no_pixels_make_the_reader_panic(zoom in 1u32..4, turn in 0.0..6.2, lean in (-0.9..0.9, -0.9..0.9), noise in 0.0..250.0) {
            let camera = Camera { turn, lean, noise, ..STEADY };
            let photo = photo(&draw(TWO_PORTS, zoom), camera);
            let width = u8::try_from(photo.width().min(255)).unwrap();
            fuzz(&[&[width], photo.as_raw().as_slice()].concat());
        }
    }
}

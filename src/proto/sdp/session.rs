//! What one side's description says about its data channel.
//!
//! The description may have audio and video beside it; of those only the place is kept. Where an
//! attribute may stand at two levels, the media section wins over the session (RFC 8866 §5.13).
//! A section that shares a transport (BUNDLE, RFC 9143 §9) finds in the tagged section what it
//! does not have itself.

use std::fmt;

use serde_json::Value;

use super::candidate::{
    Candidates, RemoteCandidate, is_candidate, is_password, is_ufrag, take_beside,
};
use super::error::SdpError;
use super::find::{self, Found};
use super::invent::Setup;
use crate::proto::token::Fingerprint;

/// The longest description, in bytes: that of a conference of dozens.
pub const MAX_SDP: usize = 64 * 1024;
const MAX_SECTIONS: usize = 64;
/// RFC 8841 §6.1: what an absent `a=max-message-size` says.
const DEFAULT_MESSAGE_SIZE: u64 = 65_536;
/// RFC 8841 §5.2 has no default; programs that leave it out mean this one.
const DEFAULT_SCTP_PORT: u16 = 5000;
/// Longer words about the program that made a description are cut.
const SOFTWARE_LEN: usize = 64;

/// What a description is in the exchange (RFC 8829 §4.1.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdpType {
    Offer,
    Answer,
}

impl SdpType {
    /// The word of the JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
        }
    }
}

/// One `m=` section, as far as an answer has to repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// `audio`, `video` and so on, in lower case.
    pub media: String,
    /// Such as `UDP/TLS/RTP/SAVPF`.
    pub protocol: String,
    /// What follows the protocol.
    pub formats: String,
    /// `a=mid` (RFC 5888 §4).
    pub mid: Option<String>,
}

/// What one side's description says about a data channel. `Debug` leaves out the password, and
/// the text that contains it.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// What the JSON said it is; nothing did for raw SDP.
    pub kind: Option<SdpType>,
    /// The description: lines that end in CRLF, nothing before or after.
    pub text: String,
    pub ufrag: String,
    pub password: String,
    pub fingerprint: Fingerprint,
    pub setup: Setup,
    pub sctp_port: u16,
    /// The longest message it takes, in bytes; 0 says that there is no limit.
    pub max_message_size: u64,
    /// The name of the section; `0` where it has none.
    pub mid: String,
    /// At most [`MAX_CANDIDATES`](super::MAX_CANDIDATES).
    pub candidates: Vec<RemoteCandidate>,
    /// Why other candidates cannot be used, as the end of a sentence about them.
    pub skipped: Vec<&'static str>,
    /// More candidates may come (RFC 8838 §4.1).
    pub trickle: bool,
    /// No more candidates come (RFC 8838 §8.2).
    pub complete: bool,
    /// `a=ice-lite` (RFC 8839 §5.3): it answers checks and begins none.
    pub lite: bool,
    /// knothole made it.
    pub knothole: bool,
    /// What it calls the program that made it, from `o=` or `s=`. Foreign text.
    pub software: Option<String>,
    /// All sections in order, that of the data channel included.
    pub sections: Vec<Section>,
    /// Which of them is the data channel.
    pub data: usize,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("kind", &self.kind)
            .field("ufrag", &self.ufrag)
            .field("fingerprint", &self.fingerprint)
            .field("setup", &self.setup)
            .field("mid", &self.mid)
            .field("candidates", &self.candidates)
            .finish_non_exhaustive()
    }
}

/// Finds the description in a pasted text and reads it.
///
/// Takes raw SDP with any line ends, also broken, joined or quoted ones; JSON with `sdp` and
/// `type` in it, also nested or as a string; base64 of either. The text may have
/// [`MAX_TEXT`](super::MAX_TEXT) bytes, the description [`MAX_SDP`].
///
/// # Errors
///
/// Says what the text is instead, or why no data channel can be made from the description.
pub fn read(text: &str) -> Result<Session, SdpError> {
    let mut session = described(text)?;
    // Raw SDP has no end: a line after it is a line of it.
    if session.kind.is_some() {
        let mut candidates = Candidates {
            usable: std::mem::take(&mut session.candidates),
            skipped: std::mem::take(&mut session.skipped),
            complete: session.complete,
        };
        take_beside(text, &mut candidates);
        session.candidates = candidates.usable;
        session.skipped = candidates.skipped;
        session.complete = candidates.complete;
    }
    Ok(session)
}

/// The description of a text, without the candidates that are beside it.
pub(super) fn described(text: &str) -> Result<Session, SdpError> {
    let found = find::find(text)?;
    session(found.kind()?, &found)
}

/// A description in the JSON that browsers make and take, on one line.
#[must_use]
pub fn json(kind: SdpType, sdp: &str) -> String {
    format!(r#"{{"type":"{}","sdp":{}}}"#, kind.word(), Value::from(sdp))
}

impl Session {
    /// What it is: what was said, or else what `a=setup` lets only one of both be
    /// (RFC 8842 §5.2: an answer chooses).
    #[must_use]
    pub fn probable_kind(&self) -> SdpType {
        self.kind.unwrap_or(match self.setup {
            Setup::ActPass => SdpType::Offer,
            Setup::Active | Setup::Passive => SdpType::Answer,
        })
    }

    /// The JSON that browsers make and take.
    #[must_use]
    pub fn to_json(&self, kind: SdpType) -> String {
        json(kind, &self.text)
    }

    /// The same data channel alone, in the one form that every agent reads: without other
    /// sections, other fingerprints, and candidates. Those are given to the agent one by one, so
    /// that it sees none that was not judged here.
    #[must_use]
    pub fn data_only(&self) -> String {
        let mut text = String::from("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n");
        let mut line = |line: String| {
            text += &line;
            text += "\r\n";
        };
        line(format!("a=group:BUNDLE {}", self.mid));
        if self.lite {
            line("a=ice-lite".to_owned());
        }
        line("m=application 9 UDP/DTLS/SCTP webrtc-datachannel".to_owned());
        line("c=IN IP4 0.0.0.0".to_owned());
        line(format!("a=ice-ufrag:{}", self.ufrag));
        line(format!("a=ice-pwd:{}", self.password));
        if self.trickle {
            line("a=ice-options:trickle".to_owned());
        }
        line(format!("a=fingerprint:sha-256 {}", self.fingerprint));
        line(format!("a=setup:{}", self.setup));
        line(format!("a=mid:{}", self.mid));
        line(format!("a=sctp-port:{}", self.sctp_port));
        line(format!("a=max-message-size:{}", self.max_message_size));
        text
    }

    /// Makes the answer to [`data_only`](Self::data_only) one to the whole offer: it must have
    /// each section of the offer at its place (RFC 8829 §5.3.1). The others are refused there.
    #[must_use]
    pub fn whole_answer(&self, answer: &str) -> String {
        let begins = answer.find("m=application").unwrap_or(answer.len());
        let (top, data) = answer.split_at(begins);
        let sections = self.sections.iter().enumerate().map(|(at, section)| {
            if at == self.data {
                return data.to_owned();
            }
            let Section {
                media,
                protocol,
                formats,
                mid,
            } = section;
            let mid = mid.as_ref().map(|mid| format!("a=mid:{mid}\r\n"));
            format!(
                "m={media} 0 {protocol} {formats}\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\n{}",
                mid.unwrap_or_default()
            )
        });
        top.to_owned() + &sections.collect::<String>()
    }
}

/// A letter and what follows `=`.
type Field<'a> = (u8, &'a str);

/// The lines of one level: the session, or one section with its `m=` first.
#[derive(Clone, Copy)]
struct Level<'a>(&'a [Field<'a>]);

impl<'a> Level<'a> {
    fn attributes(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(|(letter, _)| *letter == b'a')
            .map(|(_, field)| {
                let (name, value) = field.split_once(':').unwrap_or((field, ""));
                (name.trim(), value.trim())
            })
    }

    /// The values of an attribute. Its name is case-sensitive (RFC 8866 §5.13).
    fn all(self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.attributes()
            .filter(move |(n, _)| *n == name)
            .map(|(_, value)| value)
    }

    fn has(self, name: &'static str) -> bool {
        self.all(name).next().is_some()
    }

    /// The first word of an attribute's value: a chat may have added words to a line.
    fn word(self, name: &'static str) -> Option<&'a str> {
        let value = self.all(name).next()?;
        Some(value.split_ascii_whitespace().next().unwrap_or_default())
    }

    fn media(self) -> Option<Media<'a>> {
        let (_, value) = self.0.first().filter(|(letter, _)| *letter == b'm')?;
        let mut words = value.splitn(4, ' ').map(str::trim);
        Some(Media {
            media: words.next()?,
            port: words.next()?,
            protocol: words.next()?,
            formats: words.next().unwrap_or_default(),
        })
    }
}

/// `m=` (RFC 8866 §5.14).
struct Media<'a> {
    media: &'a str,
    port: &'a str,
    protocol: &'a str,
    formats: &'a str,
}

impl Media<'_> {
    fn is_application(&self, protocols: &[&str]) -> bool {
        self.media.eq_ignore_ascii_case("application")
            && protocols
                .iter()
                .any(|p| self.protocol.eq_ignore_ascii_case(p))
    }

    /// RFC 8841 §4.1 and §5.1.
    fn is_data_channel(&self) -> bool {
        self.is_application(&["UDP/DTLS/SCTP", "TCP/DTLS/SCTP"])
            && self.formats.split_ascii_whitespace().next() == Some("webrtc-datachannel")
    }
}

fn session(kind: Option<SdpType>, found: &Found) -> Result<Session, SdpError> {
    let text: String = found.lines.iter().flat_map(|line| [line, "\r\n"]).collect();
    if text.len() > MAX_SDP {
        return Err(SdpError::TooLong);
    }
    // RFC 8866 §5 forbids only NUL; no program writes others, and terminals obey them.
    if found
        .lines
        .iter()
        .any(|line| line.contains(char::is_control))
    {
        return Err(SdpError::Bad("it has control characters"));
    }
    let fields: Vec<Field<'_>> = found
        .lines
        .iter()
        .filter_map(|line| Some((*line.as_bytes().first()?, line.get(2..)?)))
        .collect();
    understood(kind, &fields)
        .map(|session| Session { text, ..session })
        .map_err(|error| match error {
            // A value that cannot be, at the very end, was not written like this.
            SdpError::Bad(_) if is_cut(kind, &fields, error) => {
                SdpError::Cut("in the middle of a line")
            }
            other => other,
        })
}

/// Whether an error goes away with the last line: then it is the last line that is wrong.
fn is_cut(kind: Option<SdpType>, fields: &[Field<'_>], error: SdpError) -> bool {
    let without = fields.split_last().map_or(fields, |(_, rest)| rest);
    understood(kind, without).err() != Some(error)
}

fn understood(kind: Option<SdpType>, fields: &[Field<'_>]) -> Result<Session, SdpError> {
    let levels: Vec<Level<'_>> = Levels(fields).collect();
    let (top, sections) = match levels.split_first() {
        Some((&top, sections)) if !sections.is_empty() => (top, sections),
        _ => return Err(SdpError::Cut("before its first media section")),
    };
    let media: Vec<Media<'_>> = sections.iter().filter_map(|level| level.media()).collect();
    if media.len() < sections.len() {
        return Err(SdpError::Bad(
            "it has a media section without port and protocol",
        ));
    }
    if sections.len() > MAX_SECTIONS {
        return Err(SdpError::TooLong);
    }
    let data = data_section(top, sections, &media)?;
    let own = sections[data];
    // Where it is looked for what may stand at several levels, in this order.
    let tagged = tagged(top, sections, own);
    let places: Vec<Level<'_>> = [Some(own), tagged, Some(top)]
        .into_iter()
        .flatten()
        .collect();
    let place_of = |name| places.iter().find(|level| level.has(name)).copied();
    let word = |name| place_of(name).and_then(|level| level.word(name));

    // RFC 8839 §5.4: fragment and password stand at one level.
    let credentials = place_of("ice-ufrag").ok_or(SdpError::Missing("a=ice-ufrag"))?;
    let ufrag = credentials.word("ice-ufrag").unwrap_or_default();
    let password = credentials
        .word("ice-pwd")
        .ok_or(SdpError::Missing("a=ice-pwd"))?;
    if !is_ufrag(ufrag) {
        return Err(SdpError::Bad("its a=ice-ufrag is none"));
    }
    if !is_password(password) {
        return Err(SdpError::Bad("its a=ice-pwd is none"));
    }
    let fingerprint = fingerprint(place_of("fingerprint"))?;
    let setup = setup(word("setup"))?;
    if kind == Some(SdpType::Answer) && setup == Setup::ActPass {
        return Err(SdpError::Bad(
            "it is an answer, and its a=setup does not choose",
        ));
    }

    let mut candidates = Candidates::default();
    let shares = |level: &Level<'_>| level.word("ice-ufrag").is_none_or(|other| other == ufrag);
    let transport: Vec<Level<'_>> = [Some(own), tagged.filter(shares)]
        .into_iter()
        .flatten()
        .collect();
    for (name, value) in transport.iter().flat_map(|level| level.attributes()) {
        let line = format!("{name}:{value}");
        if is_candidate(&line) {
            candidates.take(&line);
        }
    }
    let says = |name| transport.iter().chain([&top]).any(|level| level.has(name));
    let option = |name: &str| {
        let options = transport
            .iter()
            .chain([&top])
            .flat_map(|l| l.all("ice-options"));
        // Separated by spaces; libdatachannel writes a comma.
        options.flat_map(|o| o.split([' ', ','])).any(|o| o == name)
    };
    let mid = |level: &Level<'_>| level.word("mid").map(str::to_owned);
    Ok(Session {
        kind,
        text: String::new(),
        ufrag: ufrag.to_owned(),
        password: password.to_owned(),
        fingerprint,
        setup,
        sctp_port: sctp_port(own.word("sctp-port"))?,
        max_message_size: match own.word("max-message-size") {
            None => DEFAULT_MESSAGE_SIZE,
            Some(size) => size
                .parse()
                .map_err(|_| SdpError::Bad("its a=max-message-size is no number"))?,
        },
        mid: mid(&own).unwrap_or_else(|| "0".to_owned()),
        candidates: candidates.usable,
        skipped: candidates.skipped,
        trickle: option("trickle"),
        complete: says("end-of-candidates"),
        lite: top.has("ice-lite"),
        knothole: top.word("x-knothole") == Some("1"),
        software: software(top),
        sections: sections
            .iter()
            .zip(&media)
            .map(|(level, media)| Section {
                media: media.media.to_ascii_lowercase(),
                protocol: media.protocol.to_owned(),
                formats: media.formats.to_owned(),
                mid: mid(level),
            })
            .collect(),
        data,
    })
}

/// Cuts the lines where an `m=` begins a section; the session comes first.
struct Levels<'a>(&'a [Field<'a>]);

impl<'a> Iterator for Levels<'a> {
    type Item = Level<'a>;

    fn next(&mut self) -> Option<Level<'a>> {
        let mut rest = self.0.iter().skip(1);
        let end = rest.position(|(letter, _)| *letter == b'm');
        let (level, rest) = self.0.split_at(end.map_or(self.0.len(), |at| at + 1));
        self.0 = rest;
        (!level.is_empty()).then_some(Level(level))
    }
}

/// Which section is the data channel.
fn data_section(
    top: Level<'_>,
    sections: &[Level<'_>],
    media: &[Media<'_>],
) -> Result<usize, SdpError> {
    // RFC 9143 §6: a section that only makes sense bundled has port 0 and says so.
    let accepted = |at: usize| media[at].port != "0" || sections[at].has("bundle-only");
    let channels = || (0..media.len()).filter(|&at| media[at].is_data_channel());
    let old = media
        .iter()
        .any(|media| media.is_application(&["DTLS/SCTP"]));
    match channels().find(|&at| accepted(at)) {
        Some(at) => Ok(at),
        None if channels().next().is_some() => Err(SdpError::Rejected),
        None if old => Err(SdpError::OldForm),
        None if !bundles(top)
            .flatten()
            .all(|mid| section_of(mid, sections).is_some()) =>
        {
            Err(SdpError::Cut("before its last media section"))
        }
        None => Err(SdpError::NoDataChannel),
    }
}

/// The section whose transport the data channel shares, if that is another one: the first of
/// its BUNDLE group (RFC 9143 §7.1).
fn tagged<'a>(top: Level<'a>, sections: &[Level<'a>], own: Level<'a>) -> Option<Level<'a>> {
    let mid = own.word("mid")?;
    let group: Vec<&str> = bundles(top)
        .map(Iterator::collect)
        .find(|mids: &Vec<&str>| mids.contains(&mid))?;
    section_of(group.first().filter(|tag| **tag != mid)?, sections)
}

/// The names in each BUNDLE group.
fn bundles(top: Level<'_>) -> impl Iterator<Item = impl Iterator<Item = &str>> {
    top.all("group")
        .map(str::split_ascii_whitespace)
        .filter_map(|mut words| (words.next() == Some("BUNDLE")).then_some(words))
}

fn section_of<'a>(mid: &str, sections: &[Level<'a>]) -> Option<Level<'a>> {
    let mut sections = sections.iter().copied();
    sections.find(|level| level.word("mid") == Some(mid))
}

/// RFC 8122 §5: one or more, by different hashes; ours is SHA-256.
fn fingerprint(place: Option<Level<'_>>) -> Result<Fingerprint, SdpError> {
    let place = place.ok_or(SdpError::Missing("a=fingerprint"))?;
    let mut ours = None;
    for value in place.all("fingerprint") {
        let mut words = value.split_ascii_whitespace();
        let hash = words.next().unwrap_or_default();
        if !hash.eq_ignore_ascii_case("sha-256") {
            continue;
        }
        let read: Fingerprint = words
            .next()
            .unwrap_or_default()
            .parse()
            .map_err(|_| SdpError::Bad("its fingerprint is not of 32 hexadecimal pairs"))?;
        if ours.is_some_and(|ours| ours != read) {
            return Err(SdpError::Bad(
                "it has two different fingerprints by SHA-256",
            ));
        }
        ours = Some(read);
    }
    ours.ok_or(SdpError::NoSha256)
}

/// The words are literals of ABNF, so in either case (RFC 8842 §5.2, RFC 4145 §4).
fn setup(word: Option<&str>) -> Result<Setup, SdpError> {
    let word = word.ok_or(SdpError::Missing("a=setup"))?;
    [Setup::ActPass, Setup::Active, Setup::Passive]
        .into_iter()
        .find(|setup| word.eq_ignore_ascii_case(&setup.to_string()))
        .ok_or(SdpError::Bad(
            "its a=setup is neither actpass nor active nor passive",
        ))
}

fn sctp_port(word: Option<&str>) -> Result<u16, SdpError> {
    match word.map(str::parse) {
        None => Ok(DEFAULT_SCTP_PORT),
        // RFC 8841 §5.1: 0 closes the association.
        Some(Ok(0)) => Err(SdpError::Bad(
            "its a=sctp-port is 0, which closes the channel",
        )),
        Some(Ok(port)) => Ok(port),
        Some(Err(_)) => Err(SdpError::Bad("its a=sctp-port is no port")),
    }
}

/// Most programs leave `-` in both; what is there instead is a name.
fn software(top: Level<'_>) -> Option<String> {
    let value = |letter| {
        top.0
            .iter()
            .find(|(l, _)| *l == letter)
            .map(|(_, value)| *value)
    };
    let user = value(b'o').and_then(|origin| origin.split_ascii_whitespace().next());
    let name = value(b's').map(str::trim);
    [user, name]
        .into_iter()
        .flatten()
        .find(|word| !word.is_empty() && *word != "-")
        .map(|word| word.chars().take(SOFTWARE_LEN).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::candidate::{Host, TcpType, Transport};
    use super::*;

    macro_rules! corpus {
        ($($name:literal),* $(,)?) => {
            &[$(($name, include_str!(concat!("../../../tests/sdp/", $name)))),*]
        };
    }

    /// Every good description of the corpus: name and text.
    pub const CORPUS: &[(&str, &str)] = corpus![
        "aiortc-answer.json",
        "aiortc-offer.json",
        "chromium-answer-av.json",
        "chromium-answer.json",
        "chromium-offer-av.sdp",
        "chromium-offer-maxbundle.sdp",
        "chromium-offer-trickle.json",
        "chromium-offer.json",
        "firefox-answer.sdp",
        "firefox-offer.json",
        "node-datachannel-answer.json",
        "node-datachannel-offer.json",
        "pion-offer.base64",
        "safari-offer.sdp",
        "werift-answer.json",
        "werift-offer.json",
    ];

    pub fn corpus(name: &str) -> &'static str {
        let found = CORPUS.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("{name}")).1
    }

    fn firefox() -> Session {
        read(corpus("firefox-answer.sdp")).unwrap()
    }

    /// What comes of Firefox's answer after some of its text was replaced.
    fn changed(changes: &[(&str, &str)]) -> Result<Session, SdpError> {
        let mut text = corpus("firefox-answer.sdp").to_owned();
        for (old, new) in changes {
            assert!(text.contains(old), "{old}");
            text = text.replace(old, new);
        }
        read(&text)
    }

    #[test]
    fn every_program_is_understood() {
        for (name, text) in CORPUS {
            let session = read(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let offer = name.contains("offer");
            assert_eq!(session.probable_kind() == SdpType::Offer, offer, "{name}");
            assert_eq!(session.kind.is_some(), !name.ends_with(".sdp"), "{name}");
            assert_eq!(session.sctp_port, 5000, "{name}");
            let none = session.candidates.is_empty();
            assert_eq!(none, name.contains("trickle"), "{name}");
            assert!(session.text.starts_with("v=0\r\n") && session.text.ends_with("\r\n"));
            assert!(super::super::resembles(text), "{name}");
        }
    }

    #[test]
    fn what_chromium_says_is_read_to_the_letter() {
        let offer = read(corpus("chromium-offer.json")).unwrap();
        assert_eq!(offer.ufrag, "GNmn");
        assert_eq!(offer.password, "JgeS3lfHBi6vmc6al4Vlnu/Q");
        assert!(offer.fingerprint.to_string().starts_with("D1:7F:F3:70:"));
        assert_eq!((offer.setup, offer.mid.as_str()), (Setup::ActPass, "0"));
        assert_eq!(offer.max_message_size, 262_144);
        assert_eq!(
            (offer.trickle, offer.complete, offer.lite),
            (true, false, false)
        );
        assert_eq!((offer.knothole, offer.software.as_deref()), (false, None));
        assert_eq!((offer.candidates.len(), offer.skipped.len()), (2, 0));
        let name = Host::Name {
            name: "eb4ebac9-b9ea-454c-95b8-5d10b3c6bacd.local".into(),
            port: 34022,
        };
        assert_eq!(offer.candidates[0].host, name);
    }

    #[test]
    fn candidates_read_together_with_a_description_are_not_lost() {
        let offer = corpus("chromium-offer.json");
        let before = read(offer).unwrap().candidates.len();
        let line = "candidate:9 1 udp 1 192.0.2.9 9 typ host";
        let json = format!(r#"{{"candidate":"{line}","sdpMid":"0"}}"#);
        for later in [line, &format!("a={line}"), &json] {
            let both = read(&format!("{offer}\n{later}\n")).unwrap();
            assert_eq!(both.candidates.len(), before + 1, "{later}");
            assert!(!both.complete);
        }
        let both = read(&format!("{offer}\n{line}\nend-of-candidates\n")).unwrap();
        assert_eq!(both.candidates.len(), before + 1);
        assert!(both.complete);
    }

    #[test]
    fn what_firefox_says_is_read_to_the_letter() {
        let answer = firefox();
        assert_eq!((answer.setup, answer.kind), (Setup::Active, None));
        assert_eq!(answer.max_message_size, 1_073_741_823);
        assert_eq!((answer.trickle, answer.complete), (true, true));
        let software = answer.software.as_deref();
        assert_eq!(software, Some("mozilla...THIS_IS_SDPARTA-99.0"));
        let kinds: Vec<&str> = answer.candidates.iter().map(|c| c.kind.word()).collect();
        assert_eq!(kinds, ["host", "host", "srflx", "relay"]);
        let transport = answer.candidates[1].transport;
        assert_eq!(transport, Transport::Tcp(TcpType::Active));
    }

    #[test]
    fn ice_options_are_separated_by_commas_too() {
        let offer = read(corpus("node-datachannel-offer.json")).unwrap();
        assert!(offer.text.contains("a=ice-options:ice2,trickle\r\n"));
        assert!(offer.trickle && offer.complete);
    }

    #[test]
    fn of_several_fingerprints_that_by_sha_256_is_taken() {
        let offer = read(corpus("aiortc-offer.json")).unwrap();
        assert!(offer.text.contains("a=fingerprint:sha-512 "));
        assert!(offer.fingerprint.to_string().starts_with("DF:EB:2E:F6:"));
    }

    #[test]
    fn a_bundled_data_channel_has_the_candidates_of_the_section_it_is_bundled_with() {
        let offer = read(corpus("chromium-offer-maxbundle.sdp")).unwrap();
        assert_eq!((offer.mid.as_str(), offer.data), ("1", 1));
        assert_eq!(offer.candidates.len(), 2);
        let media: Vec<&str> = offer.sections.iter().map(|s| s.media.as_str()).collect();
        assert_eq!(media, ["audio", "application"]);
        // Not bundled, the candidates of another section are for another transport.
        let alone = offer.text.replace("a=group:BUNDLE 0 1\r\n", "");
        assert_eq!(read(&alone).unwrap().candidates, []);
        // Nor with other credentials: then each section still has a transport of its own.
        let both = corpus("chromium-offer-av.sdp");
        assert_eq!(read(both).unwrap().candidates.len(), 4);
        let apart = both.replacen("a=ice-ufrag:yODX", "a=ice-ufrag:other", 1);
        assert_eq!(read(&apart).unwrap().candidates.len(), 2);
    }

    #[test]
    fn a_bundle_only_section_finds_everything_where_it_is_bundled() {
        let text = corpus("chromium-offer-maxbundle.sdp");
        let (audio, data) = text.split_once("m=application 9").unwrap();
        let own: String = data
            .lines()
            .filter(|line| {
                !["a=ice-", "a=fingerprint", "a=setup"]
                    .iter()
                    .any(|a| line.starts_with(a))
            })
            .flat_map(|line| [line, "\r\n"])
            .collect();
        let bundled = format!("{audio}m=application 0{own}a=bundle-only\r\n");
        let expected = read(text).unwrap();
        let read = read(&bundled).unwrap();
        assert_eq!(
            (
                &read.ufrag,
                &read.password,
                read.fingerprint,
                read.setup,
                &read.candidates
            ),
            (
                &expected.ufrag,
                &expected.password,
                expected.fingerprint,
                expected.setup,
                &expected.candidates
            )
        );
    }

    #[test]
    fn the_section_wins_over_the_session() {
        let other = ["AA"; 32].join(":");
        let session = changed(&[
            ("t=0 0\r\n", "t=0 0\r\na=ice-ufrag:session\r\na=ice-pwd:sessionsessionsessionsession\r\na=setup:passive\r\n"),
            ("a=mid:0\r\n", &format!("a=mid:0\r\na=fingerprint:SHA-256 {other}\r\n")),
        ])
        .unwrap();
        assert_eq!(
            (session.ufrag.as_str(), session.setup),
            ("0ad377c1", Setup::Active)
        );
        assert_eq!(session.fingerprint.to_string(), other);
        // Fragment and password are a pair: half of it is not completed from elsewhere.
        let half = changed(&[
            (
                "t=0 0\r\n",
                "t=0 0\r\na=ice-pwd:sessionsessionsessionsession\r\n",
            ),
            ("a=ice-pwd:c0ffee00d15ea5e0b16b00b5deadbeef\r\n", ""),
        ]);
        assert_eq!(half, Err(SdpError::Missing("a=ice-pwd")));
    }

    #[test]
    fn what_may_be_left_out_has_its_default() {
        let session = changed(&[
            ("a=sctp-port:5000\r\n", ""),
            ("a=max-message-size:1073741823\r\n", ""),
            ("a=mid:0\r\n", ""),
            ("a=group:BUNDLE 0\r\n", ""),
            ("a=ice-options:trickle\r\n", ""),
            ("a=end-of-candidates\r\n", ""),
        ])
        .unwrap();
        assert_eq!(
            (session.sctp_port, session.max_message_size),
            (5000, 65_536)
        );
        assert_eq!(session.mid, "0");
        assert_eq!((session.trickle, session.complete), (false, false));
        let unlimited = changed(&[("size:1073741823", "size:0")]).unwrap();
        assert_eq!(unlimited.max_message_size, 0);
        let ours = changed(&[("t=0 0\r\n", "t=0 0\r\na=x-knothole:1\r\na=ice-lite\r\n")]).unwrap();
        assert!(ours.knothole && ours.lite);
        // What later ones may add is nothing to this one; what they replace is.
        for (value, knothole) in [("1 more=2 words", true), ("2", false), ("11", false)] {
            let line = format!("t=0 0\r\na=x-knothole:{value}\r\n");
            let theirs = changed(&[("t=0 0\r\n", &line)]).unwrap();
            assert_eq!(theirs.knothole, knothole, "{value}");
        }
    }

    #[test]
    fn case_does_not_matter_where_the_grammar_says_so() {
        let session = changed(&[
            ("UDP/DTLS/SCTP", "udp/dtls/sctp"),
            ("sha-256", "SHA-256"),
            ("a=setup:active", "a=setup:Active"),
            ("a=candidate:", "a=Candidate:"),
            ("typ srflx", "TYP SRFLX"),
            (" 1 UDP ", " 1 uDp "),
        ])
        .unwrap();
        let plain = firefox();
        assert_eq!(
            (session.setup, session.fingerprint),
            (plain.setup, plain.fingerprint)
        );
        assert_eq!(session.candidates.len(), plain.candidates.len());
        // Names of attributes have one case.
        let upper = changed(&[("a=ice-ufrag", "a=ICE-UFRAG")]);
        assert_eq!(upper, Err(SdpError::Missing("a=ice-ufrag")));
    }

    #[test]
    fn what_no_data_channel_can_be_made_from_is_refused_with_its_reason() {
        use SdpError::{Bad, Cut, Missing, NoDataChannel, NoSha256, OldForm, Rejected};
        const LAST: &str = "a=max-message-size:1073741823\r\n";
        let long = "x".repeat(257);
        let cases: &[(&str, &str, SdpError)] = &[
            ("m=application", "m=audio", NoDataChannel),
            ("webrtc-datachannel", "other", NoDataChannel),
            ("UDP/DTLS/SCTP", "UDP/BFCP", NoDataChannel),
            (
                "UDP/DTLS/SCTP webrtc-datachannel",
                "DTLS/SCTP 5000",
                OldForm,
            ),
            ("m=application 54261", "m=application 0", Rejected),
            ("a=ice-ufrag:0ad377c1\r\n", "", Missing("a=ice-ufrag")),
            (
                "a=ice-ufrag:0ad377c1",
                "a=ice-ufrag:abc",
                Bad("its a=ice-ufrag is none"),
            ),
            (
                "a=ice-ufrag:0ad377c1",
                "a=ice-ufrag:a b:c",
                Bad("its a=ice-ufrag is none"),
            ),
            (
                "a=ice-ufrag:0ad377c1",
                &format!("a=ice-ufrag:{long}"),
                Bad("its a=ice-ufrag is none"),
            ),
            (
                "a=ice-pwd:c0ffee00",
                "a=ice-pwd:c0ffee0!",
                Bad("its a=ice-pwd is none"),
            ),
            (
                "a=ice-pwd:c0ffee00d15ea5e0b",
                "a=ice-pwd:",
                Bad("its a=ice-pwd is none"),
            ),
            ("a=setup:active\r\n", "", Missing("a=setup")),
            (
                "a=setup:active",
                "a=setup:holdconn",
                Bad("its a=setup is neither actpass nor active nor passive"),
            ),
            ("a=fingerprint:sha-256", "a=fingerprint:sha-1", NoSha256),
            ("a=fingerprint:sha-256", "a=x:", Missing("a=fingerprint")),
            (
                "05:3A:",
                "05:",
                Bad("its fingerprint is not of 32 hexadecimal pairs"),
            ),
            (
                "a=sctp-port:5000",
                "a=sctp-port:0",
                Bad("its a=sctp-port is 0, which closes the channel"),
            ),
            (
                "a=sctp-port:5000",
                "a=sctp-port:70000",
                Bad("its a=sctp-port is no port"),
            ),
            (
                "size:1073741823",
                "size:many\r\na=x",
                Bad("its a=max-message-size is no number"),
            ),
            ("s=-", "s=\u{1b}[2J", Bad("it has control characters")),
            (
                "54261 UDP/DTLS/SCTP webrtc-datachannel",
                "",
                Bad("it has a media section without port and protocol"),
            ),
            (
                LAST,
                "a=max-message-size:1x",
                Cut("in the middle of a line"),
            ),
        ];
        for (old, new, error) in cases {
            assert_eq!(changed(&[(old, new)]).err(), Some(*error), "{old} {new}");
        }
        let text = corpus("firefox-answer.sdp");
        let (before, _) = text.split_once("m=application").unwrap();
        assert_eq!(read(before), Err(Cut("before its first media section")));
        let two = ["AA"; 32].join(":");
        let two = changed(&[(
            "a=sendrecv\r\na=fing",
            &format!("a=fingerprint:sha-256 {two}\r\na=fing"),
        )]);
        assert_eq!(
            two,
            Err(Bad("it has two different fingerprints by SHA-256"))
        );
    }

    #[test]
    fn audio_alone_and_the_old_form_are_refused() {
        let audio = include_str!("../../../tests/sdp/chromium-offer-audio-only.sdp");
        assert_eq!(read(audio), Err(SdpError::NoDataChannel));
        let old = include_str!("../../../tests/sdp/old-form-offer.sdp");
        assert_eq!(read(old), Err(SdpError::OldForm));
    }

    #[test]
    fn the_type_that_json_says_must_be_one_that_can_be_used() {
        let json = firefox().to_json(SdpType::Answer);
        assert!(
            json.starts_with(r#"{"type":"answer","sdp":"v=0\r\no="#),
            "{json}"
        );
        for (kind, error) in [
            ("pranswer", SdpError::Provisional),
            ("rollback", SdpError::Rollback),
            ("surprise", SdpError::UnknownType),
        ] {
            let json = json.replacen("answer", kind, 1);
            assert_eq!(read(&json), Err(error));
        }
        let open = json.replace("a=setup:active", "a=setup:actpass");
        assert!(matches!(read(&open), Err(SdpError::Bad(_))));
        let offer = open.replacen("answer", "offer", 1);
        assert_eq!(read(&offer).unwrap().kind, Some(SdpType::Offer));
    }

    #[test]
    fn candidates_are_bounded_and_those_that_cannot_be_used_are_told() {
        let line = |i: usize| format!("a=candidate:1 1 udp 99 192.0.2.1 {} typ host\r\n", 2000 + i);
        let many: String = (0..100).map(line).collect();
        let session = changed(&[("a=end-of-candidates\r\n", &many)]).unwrap();
        assert_eq!(session.candidates.len(), super::super::MAX_CANDIDATES);
        assert_eq!(
            session.skipped.len(),
            100 + 4 - super::super::MAX_CANDIDATES
        );
        assert_eq!(session.skipped[0], "is one too many");
        let named = changed(&[("203.0.113.7 54261 typ", "host.example.com 54261 typ")]).unwrap();
        assert_eq!(named.candidates.len(), 3);
        assert!(
            named.skipped[0].starts_with("names a host"),
            "{:?}",
            named.skipped
        );
        // The same address again is no second candidate.
        let twice = changed(&[("a=end-of-candidates\r\n", &line(0).repeat(2))]).unwrap();
        assert_eq!((twice.candidates.len(), twice.skipped.len()), (5, 0));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let padded = |bytes| {
            changed(&[(
                "a=mid:0\r\n",
                &format!("a=mid:0\r\na=x:{}\r\n", "y".repeat(bytes)),
            )])
        };
        assert!(padded(MAX_SDP - 4096).is_ok());
        assert_eq!(padded(MAX_SDP), Err(SdpError::TooLong));
        let sections = "m=audio 9 RTP/SAVPF 0\r\n".repeat(MAX_SECTIONS);
        let text = format!("{}{sections}", corpus("firefox-answer.sdp"));
        assert_eq!(read(&text), Err(SdpError::TooLong));
    }

    #[test]
    fn debug_output_has_no_password() {
        for (name, text) in CORPUS {
            let session = read(text).unwrap();
            let shown = format!("{session:?}");
            assert!(shown.contains(&session.ufrag), "{name}");
            assert!(!shown.contains(&session.password), "{name}");
        }
    }

    #[test]
    fn the_data_channel_alone_says_the_same() {
        for (name, text) in CORPUS {
            let session = read(text).unwrap();
            let alone = read(&session.data_only()).unwrap();
            let expected = Session {
                kind: None,
                text: session.data_only(),
                candidates: vec![],
                skipped: vec![],
                complete: false,
                software: None,
                knothole: false,
                sections: vec![session.sections[session.data].clone()],
                data: 0,
                ..session
            };
            let protocol = &alone.sections[0].protocol;
            assert_eq!(protocol, "UDP/DTLS/SCTP", "{name}");
            assert_eq!(alone, expected, "{name}");
        }
    }

    #[test]
    fn an_answer_to_the_data_channel_becomes_one_to_the_whole_offer() {
        let offer = read(corpus("chromium-offer-av.sdp")).unwrap();
        let ours = corpus("firefox-answer.sdp").replace("a=mid:0", "a=mid:2");
        let ours = ours.replace("BUNDLE 0", "BUNDLE 2");
        let whole = offer.whole_answer(&ours);
        let lines: Vec<&str> = whole.lines().collect();
        let media: Vec<&str> = lines
            .iter()
            .filter(|line| line.starts_with("m="))
            .map(|line| &line[..13])
            .collect();
        assert_eq!(media, ["m=audio 0 UDP", "m=video 0 UDP", "m=application"]);
        let mids: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("a=mid:"))
            .collect();
        assert_eq!(mids, ["0", "1", "2"]);
        let read = read(&whole).unwrap();
        assert_eq!((read.data, read.ufrag.as_str()), (2, "0ad377c1"));
        assert_eq!(read.candidates, firefox().candidates);
        // Where there is nothing else, nothing is added.
        let alone = super::read(corpus("safari-offer.sdp")).unwrap();
        assert_eq!(
            alone.whole_answer(corpus("firefox-answer.sdp")),
            corpus("firefox-answer.sdp")
        );
    }
}

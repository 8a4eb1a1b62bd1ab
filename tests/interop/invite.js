// Reads an invite and invents the answer of the side that made it, as docs/token.md describes.
// Nothing here needs a secure context.

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const [H, K] = [17, 19];
// GF(32) = GF(2)[x] / (x^5 + x^2 + 1); what follows the leading 1 of the generator.
const GENERATOR = [6, 26, 21, 23];
const TYPES = ["host", "srflx", "relay", "host"];
const MAX_CANDIDATES = 16;

/// The first valid invite in a text: { secret, fingerprint, issued, candidates }.
export function readInvite(text) {
  const symbols = Array.from(text.slice(0, 65536).toUpperCase().matchAll(/[\p{L}\p{N}]/gu), ([letter]) =>
    ALPHABET.indexOf({ O: "0", I: "1", L: "1" }[letter] ?? letter));
  for (let at = 0; at + 1 < symbols.length; at++) {
    const invite = symbols[at] === K && symbols[at + 1] === H && readAt(symbols.slice(at));
    if (invite) return invite;
  }
  throw new Error("no invite in this text, or there is a typing mistake in it");
}

/// What the other side would have answered to `offer`, this page's own local description, which
/// stays as it is: the answer travels in the user name of the first STUN check.
export function inventAnswer(invite, offer) {
  const own = (name) => offer.match(new RegExp(`^a=${name}(\\S+)`, "m"))[1];
  const fingerprint = own("fingerprint:sha-256 ").split(":").map((byte) => parseInt(byte, 16));
  // KW: a WebRTC peer without the frames that two knotholes put below DTLS.
  const ufrag = "KW" + base64(fingerprint) + own("ice-pwd:");
  const theirs = Array.from(invite.fingerprint, (byte) => byte.toString(16).padStart(2, "0")).join(":");
  return [
    "v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE 0",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0",
    `a=ice-ufrag:${ufrag}`, `a=ice-pwd:${base64(invite.secret)}`,
    `a=fingerprint:sha-256 ${theirs.toUpperCase()}`,
    "a=setup:active", "a=mid:0", "a=sctp-port:5000", "a=max-message-size:65536",
    ...candidateLines(invite).map((line) => "a=" + line),
  ].map((line) => line + "\r\n").join("");
}

/// The invite's addresses as ICE candidates. Chromium checks an address anew when it is added with
/// another foundation, and does nothing when all of it is the same.
export function candidateLines(invite, foundation = 1) {
  return invite.candidates.map(({ type, ip, port }, i) => {
    const related = type === "host" ? "" : " raddr 0.0.0.0 rport 0";
    return `candidate:${foundation + i} 1 udp ${2130706431 - 256 * i} ${ip} ${port} typ ${type}${related}`;
  });
}

function readAt(symbols) {
  const bits = new Bits(symbols.slice(2));
  try {
    const secret = bits.bytes(16), fingerprint = bits.bytes(32), issued = bits.take(24);
    bits.take(6);
    const candidates = [];
    for (let more = 1, port; more; ) {
      if (candidates.length === MAX_CANDIDATES) return null;
      const kind = bits.take(2), isV6 = bits.take(1), samePort = bits.take(1);
      more = bits.take(1);
      const bytes = bits.bytes(isV6 ? 16 : 4);
      if (!samePort) port = bits.take(16);
      if (!port) return null;
      const pairs = () => Array.from({ length: 8 }, (_, i) => (bytes[2 * i] * 256 + bytes[2 * i + 1]).toString(16));
      const ip = isV6 ? pairs().join(":") : bytes.join(".");
      candidates.push({ type: TYPES[kind], ip, port });
    }
    if (bits.take((5 - (bits.at % 5)) % 5) !== 0) return null;
    const length = 2 + bits.at / 5 + GENERATOR.length;
    return isWhole(symbols.slice(0, length), length) ? { secret, fingerprint, issued, candidates } : null;
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

class Bits {
  at = 0;

  constructor(symbols) {
    this.symbols = symbols;
  }

  take(count) {
    let value = 0;
    for (; count > 0; count--, this.at++) {
      const symbol = this.symbols[Math.floor(this.at / 5)];
      if (symbol === undefined || symbol < 0) throw new RangeError("the text ends");
      value = value * 2 + ((symbol >> (4 - (this.at % 5))) & 1);
    }
    return value;
  }

  bytes(count) {
    return Array.from({ length: count }, () => this.take(8));
  }
}

function isWhole(symbols, length) {
  if (symbols.length !== length || symbols.some((symbol) => symbol < 0)) return false;
  let state = [0, 0, 0, 0];
  for (const symbol of symbols) {
    const factor = symbol ^ state[0];
    state = GENERATOR.map((g, i) => (state[i + 1] ?? 0) ^ times(g, factor));
  }
  return state.every((symbol) => symbol === 0);
}

function times(a, b) {
  let product = 0;
  for (let bit = 0; bit < 5; bit++) {
    if ((b >> bit) & 1) product ^= a << bit;
  }
  for (let bit = 9; bit > 4; bit--) {
    if ((product >> bit) & 1) product ^= 0b100101 << (bit - 5);
  }
  return product;
}

function base64(bytes) {
  return btoa(String.fromCharCode(...bytes)).replace(/=+$/, "");
}

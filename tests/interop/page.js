// A browser as the other side, driven by the test that serves this page: it asks for jobs one after
// the other (see JOBS) and posts what came of them. The browser's own descriptions are never changed.

import { Blake3 } from "./blake3.js";
import { candidateLines, inventAnswer, readInvite } from "./invite.js";
import { Peer, receive, send } from "./transfer.js";

/// At most one connection at a time: { pc, candidates }, and the promises
/// gathered and peer.
let link = null;

const JOBS = {
  /// Hashes the bytes 0, 1 … 250, 0, 1 … of each length, handed over in uneven pieces.
  async hash({ lengths }) {
    return lengths.map((length) => {
      const bytes = Uint8Array.from({ length }, (_, i) => i % 251);
      const hash = new Blake3();
      for (let at = 0, step = 1; at < length; at += step, step = (step * 7) % 3001) {
        hash.update(bytes.subarray(at, at + step));
      }
      return hash.hex();
    });
  },

  /// Takes an invite: one description is our own, the other is invented.
  async join({ invite }) {
    const read = readInvite(invite);
    const { pc } = connect({ isOffering: true });
    await pc.setLocalDescription();
    await pc.setRemoteDescription({ type: "answer", sdp: inventAnswer(read, pc.localDescription.sdp) });
    // Chromium stops checking after 15 s and says "failed", but nothing is lost: it begins again
    // when the addresses are added as if they were new.
    let foundation = 1;
    pc.addEventListener("iceconnectionstatechange", () => {
      if (!["disconnected", "failed"].includes(pc.iceConnectionState)) return;
      foundation += read.candidates.length;
      for (const candidate of candidateLines(read, foundation)) pc.addIceCandidate({ candidate, sdpMid: "0" });
    });
  },

  /// Makes an offer; without `trickle` all candidates are in it.
  async offer({ trickle }) {
    const { pc, gathered } = connect({ isOffering: true });
    await pc.setLocalDescription();
    const bare = pc.localDescription.toJSON();
    if (trickle) return bare;
    await gathered;
    return pc.localDescription;
  },

  /// Answers an offer.
  async answer({ offer, trickle }) {
    const { pc, gathered } = connect({ isOffering: false });
    await pc.setRemoteDescription(offer);
    await pc.setLocalDescription();
    const bare = pc.localDescription.toJSON();
    if (trickle) return bare;
    await gathered;
    return pc.localDescription;
  },

  /// Takes the answer to our offer.
  async take({ answer }) {
    await link.pc.setRemoteDescription(answer);
  },

  /// The candidates that a description without them leaves out.
  async candidates() {
    await link.gathered;
    return link.candidates;
  },

  /// Adds candidates of the other side.
  async add({ candidates }) {
    for (const candidate of candidates) await link.pc.addIceCandidate({ candidate, sdpMid: "0" });
  },

  /// Waits until the channel is open.
  async open() {
    const { pc } = link;
    await opened();
    return { path: await chosenPath(pc), maxMessageSize: pc.sctp.maxMessageSize };
  },

  async send({ name, size }) {
    const file = new File([noise(size)], name);
    const peer = await opened();
    const start = performance.now();
    const files = await send(peer, [file]);
    return { files, seconds: (performance.now() - start) / 1000 };
  },

  async receive() {
    const peer = await opened();
    const start = performance.now();
    let longest = 0;
    peer.channel.addEventListener("message", ({ data }) => {
      longest = Math.max(longest, data.byteLength ?? 0);
    });
    const received = await receive(peer, async () => true);
    const seconds = (performance.now() - start) / 1000;
    return { files: received.map(({ name, size, blake3 }) => ({ name, size, blake3 })), longest, seconds };
  },

  /// Without a protocol: sends `size` bytes, receives `expected` bytes, and closes.
  async swap({ size, expected }) {
    const peer = await opened();
    const sending = sendBytes(peer, noise(size));
    const received = await receiveBytes(peer, expected);
    const sent = await sending;
    peer.channel.close();
    return { sent, received };
  },

  /// Without a protocol: one message.
  async say({ text }) {
    (await opened()).channel.send(text);
  },

  /// Without a protocol: text up to the end of a line.
  async hear() {
    const peer = await opened();
    const decoder = new TextDecoder("utf-8", { fatal: true });
    let text = "";
    while (!text.endsWith("\n")) {
      const data = await peer.next();
      text += typeof data === "string" ? data : decoder.decode(data, { stream: true });
    }
    return text;
  },

  /// Closes the channel.
  async "hang up"() {
    (await link.peer).channel.close();
  },

  /// Whether this browser refuses its own description with another user name fragment in it.
  async munge() {
    const pc = new RTCPeerConnection();
    pc.createDataChannel("");
    const { type, sdp } = await pc.createOffer();
    const munged = sdp.replace(/a=ice-ufrag:\S+/, "a=ice-ufrag:knothole");
    const refused = await pc.setLocalDescription({ type, sdp: munged }).then(() => false, () => true);
    pc.close();
    return refused;
  },

  async close() {
    link?.pc.close();
    link = null;
  },
};

function connect({ isOffering }) {
  link?.pc.close();
  const pc = new RTCPeerConnection();
  const candidates = [];
  pc.addEventListener("iceconnectionstatechange", () => say(`ice: ${pc.iceConnectionState}`));
  pc.addEventListener("connectionstatechange", () => say(`connection: ${pc.connectionState}`));
  const gathered = new Promise((resolve) => {
    pc.addEventListener("icecandidate", ({ candidate }) => {
      if (candidate?.candidate) candidates.push(candidate.candidate);
      else if (!candidate) resolve();
    });
  });
  const channel = isOffering
    ? Promise.resolve(pc.createDataChannel("knothole"))
    : new Promise((resolve) => pc.addEventListener("datachannel", ({ channel }) => resolve(channel)));
  const peer = channel.then((channel) => new Peer(channel, () => pc.sctp.maxMessageSize));
  link = { pc, peer, candidates, gathered };
  return link;
}

async function sendBytes(peer, bytes) {
  const length = Math.min(65536, peer.maxMessage());
  for (let at = 0; at < bytes.length; at += length) {
    await peer.room();
    peer.channel.send(bytes.subarray(at, at + length));
  }
  return { size: bytes.length, blake3: hashed([bytes]) };
}

async function receiveBytes(peer, expected) {
  const parts = [];
  let size = 0;
  while (size < expected) {
    const data = await peer.next();
    parts.push(typeof data === "string" ? new TextEncoder().encode(data) : new Uint8Array(data));
    size += parts.at(-1).length;
  }
  return { size, blake3: hashed(parts) };
}

function hashed(parts) {
  const hash = new Blake3();
  for (const part of parts) hash.update(part);
  return hash.hex();
}

async function opened() {
  const { pc } = link;
  const peer = await link.peer;
  await peer.opened;
  // A channel that the other side opened is called open by Chromium a moment before it is, and what
  // is sent in that moment is lost without an error. The statistics have its true state.
  while (!(await isOpen(pc, peer.channel.id))) await say("not open yet");
  return peer;
}

async function isOpen(pc, id) {
  const stats = [...(await pc.getStats()).values()];
  return stats.some(({ type, dataChannelIdentifier, state }) =>
    type === "data-channel" && dataChannelIdentifier === id && state === "open");
}

async function chosenPath(pc) {
  const stats = await pc.getStats();
  const all = [...stats.values()];
  const transport = all.find(({ type }) => type === "transport");
  const pair = stats.get(transport?.selectedCandidatePairId);
  const end = (id) => {
    const { candidateType, address, port } = stats.get(id);
    return `${candidateType} ${address}:${port}`;
  };
  return pair ? `${end(pair.localCandidateId)} to ${end(pair.remoteCandidateId)}` : "unknown";
}

/// Bytes that do not compress, the same in every run.
function noise(size) {
  const words = new Uint32Array(Math.ceil(size / 4));
  let state = 0x9e3779b9;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, size);
}

function say(line) {
  document.getElementById("log").append(line + "\n");
  return fetch("/said", { method: "POST", body: line });
}

addEventListener("error", ({ message }) => say(`error: ${message}`));
addEventListener("unhandledrejection", ({ reason }) => say(`unhandled: ${reason?.stack ?? reason}`));

for (;;) {
  const response = await fetch("/job");
  if (response.status === 204) continue;
  const job = await response.json();
  // Jobs may overlap: one that waits for the other side does not hold up the next.
  JOBS[job.do](job)
    .then((value) => ({ id: job.id, value: value ?? null }))
    .catch((error) => ({ id: job.id, error: String(error?.stack ?? error) }))
    .then((outcome) => fetch("/result", { method: "POST", body: JSON.stringify(outcome) }));
}

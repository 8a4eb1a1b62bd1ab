// The transfer protocol of docs/protocol.md over one data channel: `send` and `receive`.

import { Blake3 } from "./blake3.js";

const HELLO = { t: "hello", knothole: "page", proto: [1, 1], max_control: 65536, max_data: 65536, caps: [] };
const MAX_FILES = 10000;
const MAX_UNACKNOWLEDGED = 64;
/// A channel's buffer is filled up to here, in bytes, and filled again when half of it has left.
const BUFFER = 1 << 20;
/// Blobs are read in pieces of this many bytes.
const READ = 1 << 20;
/// How long the other side has to close, in milliseconds.
const LAST_WAIT = 2000;

/// How a transfer ended when it did not end well. `kind` is "declined", "lost", "cancelled" (by the
/// other side), "here" (by this side, told to the other with `reason`).
export class Ended extends Error {
  constructor(kind, reason, text = "") {
    super(`${kind}: ${reason}${text && ` (${text})`}`);
    Object.assign(this, { kind, reason, text });
  }
}

/// Sends files (File or Blob with a name). Returns what was sent: [{ name, size, blake3 }].
export function send(peer, files, signal) {
  return talk(peer, signal, async () => {
    await peer.greet("send");
    peer.sayManifest(files);
    const decision = await peer.hear("accept", "decline");
    if (decision.t === "decline") {
      peer.channel.close();
      throw new Ended("declined", decision.reason, decision.text);
    }
    const sent = [];
    let acknowledged = 0;
    const takeAck = async () => {
      const ack = await peer.hear("ack");
      if (ack.i !== acknowledged || !sent[ack.i]) throw new Ended("here", "protocol", "an ack out of order");
      if (ack.blake3 !== sent[ack.i].blake3) throw new Ended("here", "verify");
      acknowledged++;
    };
    for (const [i, file] of files.entries()) {
      while (i - acknowledged >= MAX_UNACKNOWLEDGED) await takeAck();
      peer.say({ t: "file", i });
      const hash = new Blake3();
      for (let at = 0; at < file.size; at += READ) {
        const bytes = new Uint8Array(await file.slice(at, at + READ).arrayBuffer());
        hash.update(bytes);
        for (let from = 0; from < bytes.length; from += peer.maxData) {
          await peer.room(takeAck);
          peer.channel.send(bytes.subarray(from, from + peer.maxData));
        }
      }
      sent.push({ name: file.name, size: file.size, blake3: hash.hex() });
      peer.say({ t: "end", i, size: file.size, blake3: sent[i].blake3 });
    }
    while (acknowledged < files.length) await takeAck();
    peer.say({ t: "bye" });
    await peer.closed();
    return sent;
  });
}

/// Receives files: `decide(files)` answers true or the reason to decline. Returns
/// [{ name, size, blake3, blob }]. The names are the other side's: not to be trusted.
export function receive(peer, decide, signal) {
  return talk(peer, signal, async () => {
    await peer.greet("receive");
    const files = await hearManifest(peer);
    const decision = await decide(files);
    if (decision !== true) {
      peer.say({ t: "decline", reason: decision });
      await peer.closed();
      throw new Ended("declined", decision);
    }
    peer.say({ t: "accept" });
    const received = [];
    for (const [i, { name, size }] of files.entries()) {
      if ((await peer.hear("file")).i !== i) throw new Ended("here", "protocol", "a file out of order");
      const hash = new Blake3();
      const parts = [];
      let count = 0, message;
      while (((message = await peer.hear("data", "end")).t === "data")) {
        count += message.bytes.length;
        if (count > (size ?? Infinity)) throw new Ended("here", "protocol", "more bytes than announced");
        hash.update(message.bytes);
        parts.push(message.bytes);
      }
      const isRight = message.i === i && message.size === (size ?? message.size);
      if (!isRight) throw new Ended("here", "protocol", "an end that does not fit");
      const blake3 = hash.hex();
      if (message.size !== count || message.blake3 !== blake3) throw new Ended("here", "verify");
      peer.say({ t: "ack", i, blake3 });
      received.push({ name, size: count, blake3, blob: new Blob(parts) });
    }
    await peer.hear("bye");
    peer.channel.close();
    return received;
  });
}

async function hearManifest(peer) {
  const files = [];
  for (let more = true; more; ) {
    const manifest = await peer.hear("manifest");
    more = manifest.more === true;
    const isFile = (file) => typeof file?.name === "string" && (file.size == null || Number.isSafeInteger(file.size));
    const isList = Array.isArray(manifest.files) && manifest.files.length > 0 && manifest.files.every(isFile);
    if (!isList || files.length + manifest.files.length > MAX_FILES) throw new Ended("here", "protocol", "manifest");
    files.push(...manifest.files);
  }
  return files;
}

/// Runs one side of a talk. What this side ends is told to the other, which then closes.
async function talk(peer, signal, work) {
  const stop = () => peer.end(new Ended("here", "user"));
  signal?.addEventListener("abort", stop);
  try {
    return await work();
  } catch (error) {
    if (error.kind === "here" && peer.channel.readyState === "open") {
      peer.say({ t: "cancel", reason: error.reason, text: error.text });
      await peer.closed();
    }
    peer.channel.close();
    throw error;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/// The other end of a channel: what it says, in order, and how much it takes. To be made at once
/// when the channel is there, also before it is open: a message that nobody listens to is lost.
export class Peer {
  #mail = [];
  #over = null; // why nothing more comes
  #waiting = []; // for an event

  /// `maxMessage()`: the longest message that the other side takes, known once the channel is open.
  constructor(channel, maxMessage) {
    this.channel = channel;
    this.maxMessage = maxMessage;
    this.opened = new Promise((resolve) => channel.addEventListener("open", resolve));
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = BUFFER / 2;
    channel.onmessage = ({ data }) => {
      this.#mail.push(data);
      this.#wake();
    };
    channel.onbufferedamountlow = () => this.#wake();
    channel.onclose = () => this.end(new Ended("lost", "the channel was closed"));
  }

  /// Ends the talk: whoever waits, or will wait for more than has come, gets this error.
  end(error) {
    this.#over ??= error;
    this.#wake();
  }

  get hasMail() {
    return this.#mail.length > 0;
  }

  async greet(role) {
    this.say({ ...HELLO, role });
    const hello = await this.hear("hello");
    const [oldest, newest] = hello.proto ?? [];
    if (!(oldest <= 1 && newest >= 1)) throw new Ended("here", "version", `the other side speaks ${hello.proto}`);
    if (hello.role !== { send: "receive", receive: "send" }[role]) throw new Ended("here", "role");
    if (hello.verify === true) throw new Ended("here", "error", "this page cannot compare words");
    this.maxData = Math.min(hello.max_data ?? 65536, HELLO.max_data, this.maxMessage());
    this.maxControl = Math.min(hello.max_control ?? 65536, HELLO.max_control, this.maxMessage());
  }

  say(message) {
    this.channel.send(JSON.stringify(message));
  }

  /// The list of files, in as many messages as the other side's limit makes necessary.
  sayManifest(files) {
    const entries = files.map(({ name, size }) => ({ name, size }));
    const total = entries.reduce((sum, { size }) => sum + size, 0);
    const length = (value) => new TextEncoder().encode(JSON.stringify(value)).length;
    const frame = length({ t: "manifest", files: [], total, more: true });
    for (let from = 0, to; from < entries.length; from = to) {
      let room = this.maxControl - frame;
      for (to = from; to < entries.length && (room -= length(entries[to]) + 1) >= 0; ) to++;
      if (to === from) throw new Ended("here", "error", "a name that is too long");
      const rest = to < entries.length ? { more: true } : { total };
      this.say({ t: "manifest", files: entries.slice(from, to), ...rest });
    }
  }

  /// The next message, which must be of one of these types; "data" stands for a binary one.
  async hear(...types) {
    for (;;) {
      const message = readMessage(await this.next());
      if (message.t === "cancel") throw new Ended("cancelled", message.reason, message.text);
      if (types.includes(message.t)) return message;
      if (KNOWN.includes(message.t) || message.opt !== true) {
        throw new Ended("here", "protocol", `${message.t} where ${types.join(" or ")} belongs`);
      }
    }
  }

  /// The next message as it came, a string or an ArrayBuffer.
  async next() {
    while (!this.hasMail) await this.#change();
    return this.#mail.shift();
  }

  /// Resolves when the channel takes more. What comes meanwhile goes first, through `takeMail`.
  async room(takeMail) {
    for (;;) {
      if (takeMail && this.hasMail) await takeMail();
      else if (this.channel.bufferedAmount >= BUFFER) await this.#change();
      else return;
    }
  }

  /// Resolves when the other side has closed, or has had the time for it.
  async closed() {
    const isClosed = new Promise((resolve) => this.channel.addEventListener("close", resolve));
    if (this.channel.readyState === "closed") return;
    await Promise.race([isClosed, new Promise((resolve) => setTimeout(resolve, LAST_WAIT))]);
  }

  async #change() {
    if (this.#over) throw this.#over;
    await new Promise((resolve) => this.#waiting.push(resolve));
  }

  #wake() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

const KNOWN = ["hello", "agree", "manifest", "accept", "decline", "file", "data", "end", "ack", "bye", "cancel"];

function readMessage(data) {
  if (typeof data !== "string") return { t: "data", bytes: new Uint8Array(data) };
  try {
    const message = JSON.parse(data);
    if (typeof message?.t === "string" && message.t !== "data") return message;
  } catch {
    // The same fault as a message without a type.
  }
  throw new Ended("here", "protocol", "not a control message");
}

// BLAKE3, plain hashing with 32 bytes of output, as a stream: update(bytes) any number of times,
// then hex(). Chunks of 1024 bytes are leaves of a binary tree; `stack` holds the chaining values of
// the finished subtrees on its left edge.

const IV = Int32Array.of(
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
);
const CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8;
const BLOCK = 64, CHUNK = 1024;
const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

// Which word of the block each of the seven rounds uses where: the permutation, applied again and again.
const SCHEDULE = (() => {
  const next = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
  const all = [];
  for (let round = [...Array(16).keys()], i = 0; i < 7; i++, round = next.map((at) => round[at])) {
    all.push(...round);
  }
  return Uint8Array.from(all);
})();

export class Blake3 {
  #block = new Uint8Array(BLOCK);
  #words = new Int32Array(this.#block.buffer);
  #filled = 0; // bytes in the block
  #blocks = 0; // blocks of the chunk that are compressed
  #chunks = 0; // chunks that are finished
  #cv = IV.slice();
  #stack = [];

  update(bytes) {
    for (let at = 0; at < bytes.length;) {
      // A full block is compressed only when more follows: the last one is treated differently.
      if (this.#filled === BLOCK) this.#finishBlock();
      const take = Math.min(BLOCK - this.#filled, bytes.length - at);
      this.#block.set(bytes.subarray(at, at + take), this.#filled);
      this.#filled += take;
      at += take;
    }
  }

  hex() {
    this.#block.fill(0, this.#filled);
    let last = { cv: this.#cv, words: this.#littleEndian().slice(), length: this.#filled, counter: this.#chunks };
    last.flags = CHUNK_END | (this.#blocks === 0 ? CHUNK_START : 0);
    for (const left of this.#stack.toReversed()) {
      last = { cv: IV, words: pair(left, compress(last)), length: BLOCK, counter: 0, flags: PARENT };
    }
    last = { ...last, counter: 0, flags: last.flags | ROOT };
    const bytes = new DataView(new ArrayBuffer(32));
    compress(last).forEach((word, i) => bytes.setInt32(4 * i, word, true));
    return Array.from(new Uint8Array(bytes.buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  #finishBlock() {
    const isLast = this.#blocks === CHUNK / BLOCK - 1;
    const flags = (this.#blocks === 0 ? CHUNK_START : 0) | (isLast ? CHUNK_END : 0);
    this.#cv = compress({ cv: this.#cv, words: this.#littleEndian(), length: BLOCK, counter: this.#chunks, flags });
    this.#filled = 0;
    this.#blocks++;
    if (isLast) this.#finishChunk();
  }

  #finishChunk() {
    let cv = this.#cv;
    this.#chunks++;
    // Each trailing zero bit of the count is a subtree that is complete now.
    for (let count = this.#chunks; count % 2 === 0; count /= 2) {
      cv = compress({ cv: IV, words: pair(this.#stack.pop(), cv), length: BLOCK, counter: 0, flags: PARENT });
    }
    this.#stack.push(cv);
    this.#cv = IV;
    this.#blocks = 0;
  }

  #littleEndian() {
    if (LITTLE_ENDIAN) return this.#words;
    const view = new DataView(this.#block.buffer);
    return Int32Array.from({ length: 16 }, (_, i) => view.getInt32(4 * i, true));
  }
}

function pair(left, right) {
  const words = new Int32Array(16);
  words.set(left);
  words.set(right, 8);
  return words;
}

// Written out with one variable a word: more than twice as fast as arrays and calls.
function compress({ cv, words: m, length, counter, flags }) {
  let v0 = cv[0], v1 = cv[1], v2 = cv[2], v3 = cv[3], v4 = cv[4], v5 = cv[5], v6 = cv[6], v7 = cv[7];
  let v8 = IV[0], v9 = IV[1], va = IV[2], vb = IV[3];
  let vc = counter | 0, vd = (counter / 0x1_0000_0000) | 0, ve = length, vf = flags;
  for (let r = 0; r < SCHEDULE.length; r += 16) {
    v0 = (v0 + v4 + m[SCHEDULE[r]]) | 0; vc ^= v0; vc = (vc >>> 16) | (vc << 16); v8 = (v8 + vc) | 0; v4 ^= v8; v4 = (v4 >>> 12) | (v4 << 20);
    v0 = (v0 + v4 + m[SCHEDULE[r + 1]]) | 0; vc ^= v0; vc = (vc >>> 8) | (vc << 24); v8 = (v8 + vc) | 0; v4 ^= v8; v4 = (v4 >>> 7) | (v4 << 25);
    v1 = (v1 + v5 + m[SCHEDULE[r + 2]]) | 0; vd ^= v1; vd = (vd >>> 16) | (vd << 16); v9 = (v9 + vd) | 0; v5 ^= v9; v5 = (v5 >>> 12) | (v5 << 20);
    v1 = (v1 + v5 + m[SCHEDULE[r + 3]]) | 0; vd ^= v1; vd = (vd >>> 8) | (vd << 24); v9 = (v9 + vd) | 0; v5 ^= v9; v5 = (v5 >>> 7) | (v5 << 25);
    v2 = (v2 + v6 + m[SCHEDULE[r + 4]]) | 0; ve ^= v2; ve = (ve >>> 16) | (ve << 16); va = (va + ve) | 0; v6 ^= va; v6 = (v6 >>> 12) | (v6 << 20);
    v2 = (v2 + v6 + m[SCHEDULE[r + 5]]) | 0; ve ^= v2; ve = (ve >>> 8) | (ve << 24); va = (va + ve) | 0; v6 ^= va; v6 = (v6 >>> 7) | (v6 << 25);
    v3 = (v3 + v7 + m[SCHEDULE[r + 6]]) | 0; vf ^= v3; vf = (vf >>> 16) | (vf << 16); vb = (vb + vf) | 0; v7 ^= vb; v7 = (v7 >>> 12) | (v7 << 20);
    v3 = (v3 + v7 + m[SCHEDULE[r + 7]]) | 0; vf ^= v3; vf = (vf >>> 8) | (vf << 24); vb = (vb + vf) | 0; v7 ^= vb; v7 = (v7 >>> 7) | (v7 << 25);
    v0 = (v0 + v5 + m[SCHEDULE[r + 8]]) | 0; vf ^= v0; vf = (vf >>> 16) | (vf << 16); va = (va + vf) | 0; v5 ^= va; v5 = (v5 >>> 12) | (v5 << 20);
    v0 = (v0 + v5 + m[SCHEDULE[r + 9]]) | 0; vf ^= v0; vf = (vf >>> 8) | (vf << 24); va = (va + vf) | 0; v5 ^= va; v5 = (v5 >>> 7) | (v5 << 25);
    v1 = (v1 + v6 + m[SCHEDULE[r + 10]]) | 0; vc ^= v1; vc = (vc >>> 16) | (vc << 16); vb = (vb + vc) | 0; v6 ^= vb; v6 = (v6 >>> 12) | (v6 << 20);
    v1 = (v1 + v6 + m[SCHEDULE[r + 11]]) | 0; vc ^= v1; vc = (vc >>> 8) | (vc << 24); vb = (vb + vc) | 0; v6 ^= vb; v6 = (v6 >>> 7) | (v6 << 25);
    v2 = (v2 + v7 + m[SCHEDULE[r + 12]]) | 0; vd ^= v2; vd = (vd >>> 16) | (vd << 16); v8 = (v8 + vd) | 0; v7 ^= v8; v7 = (v7 >>> 12) | (v7 << 20);
    v2 = (v2 + v7 + m[SCHEDULE[r + 13]]) | 0; vd ^= v2; vd = (vd >>> 8) | (vd << 24); v8 = (v8 + vd) | 0; v7 ^= v8; v7 = (v7 >>> 7) | (v7 << 25);
    v3 = (v3 + v4 + m[SCHEDULE[r + 14]]) | 0; ve ^= v3; ve = (ve >>> 16) | (ve << 16); v9 = (v9 + ve) | 0; v4 ^= v9; v4 = (v4 >>> 12) | (v4 << 20);
    v3 = (v3 + v4 + m[SCHEDULE[r + 15]]) | 0; ve ^= v3; ve = (ve >>> 8) | (ve << 24); v9 = (v9 + ve) | 0; v4 ^= v9; v4 = (v4 >>> 7) | (v4 << 25);
  }
  return Int32Array.of(v0 ^ v8, v1 ^ v9, v2 ^ va, v3 ^ vb, v4 ^ vc, v5 ^ vd, v6 ^ ve, v7 ^ vf);
}

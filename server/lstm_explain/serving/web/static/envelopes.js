// SPDX-License-Identifier: Apache-2.0

// The messages of a stream by the Connect protocol: a byte of flags and four bytes of length in front of each.

const HEAD = 5;
const END = 2; // the flag of the last message

/** A message of text, to be sent. */
export function envelope(text) {
  const bytes = new TextEncoder().encode(text);
  const whole = new Uint8Array(HEAD + bytes.length);
  new DataView(whole.buffer).setUint32(1, bytes.length);
  whole.set(bytes, HEAD);
  return whole;
}

/** Yields the text of every message as it comes, and whether it is the last one. body: of a response. */
export async function* messages(body) {
  const reader = body.getReader();
  let pieces = [];
  let size = 0;
  let wanted = HEAD;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      pieces.push(value);
      size += value.length;
      while (size >= wanted) {
        const whole = joined(pieces, size);
        wanted = HEAD + new DataView(whole.buffer).getUint32(1);
        pieces = [whole];
        if (size < wanted) break;
        yield { message: new TextDecoder().decode(whole.subarray(HEAD, wanted)), end: Boolean(whole[0] & END) };
        pieces = [whole.subarray(wanted)];
        size -= wanted;
        wanted = HEAD;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function joined(pieces, size) {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

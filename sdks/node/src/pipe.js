// Bytes of a body on their way from the channel to who reads them. What is not read yet counts against the window.

"use strict";

class Pipe {
  /** @param {(frames: number) => void} consumed called when a piece was read */
  constructor(consumed) {
    this.consumed = consumed;
    this.pieces = [];
    this.isEnded = false;
    this.error = null;
    this.wake = null;
  }

  /** @param {Buffer} bytes @param {number} frames */
  push(bytes, frames) {
    this.pieces.push({ bytes, frames });
    this.stir();
  }

  end() {
    this.isEnded = true;
    this.stir();
  }

  /** @param {Error} error */
  fail(error) {
    this.error ??= error;
    this.stir();
  }

  stir() {
    this.wake?.();
    this.wake = null;
  }

  /** The next piece; null at the end. @returns {Promise<Buffer | null>} */
  async next() {
    for (;;) {
      if (this.error) throw this.error;
      const piece = this.pieces.shift();
      if (piece) {
        this.consumed(piece.frames);
        if (piece.bytes.length > 0) return piece.bytes;
      } else if (this.isEnded) {
        return null;
      } else {
        await new Promise((resolve) => (this.wake = /** @type {() => void} */ (resolve)));
      }
    }
  }

  /** All of it. @param {number} limit in bytes */
  async whole(limit) {
    const pieces = [];
    let size = 0;
    for (let piece; (piece = await this.next()); ) {
      pieces.push(piece);
      size += piece.length;
      if (size > limit) throw Object.assign(new Error(`a payload is larger than the limit of ${limit} bytes`), { name: "PayloadTooLarge" });
    }
    return pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
  }

  /** As a stream of the Web API. @param {(reason: unknown) => void} [cancelled] the reader wants no more */
  stream(cancelled) {
    return new ReadableStream({
      pull: async (controller) => {
        const piece = await this.next();
        if (piece === null) controller.close();
        else controller.enqueue(new Uint8Array(piece.buffer, piece.byteOffset, piece.length));
      },
      cancel: (reason) => cancelled?.(reason),
    }, { highWaterMark: 0 });
  }
}

module.exports = { Pipe };

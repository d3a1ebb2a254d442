import type { ImageResult } from "./generated/protocol.js";

/** A finished image. */
export interface GeneratedImage {
  /** The encoded file. */
  readonly blob: Blob;
  /** An object URL of `blob`, made at the first call and the same ever after. Give it back with `revoke()`. */
  url(): string;
  /** Gives the object URL back; a later `url()` makes a new one. */
  revoke(): void;
  /** The seed that draws this very image alone; a string above 2^53−1. */
  readonly seed: number | string;
  /** Pixels across. */
  readonly width: number;
  /** Pixels down. */
  readonly height: number;
  /** `image/png`, `image/webp` or `image/jpeg`. */
  readonly mimeType: string;
  /** Place in the batch, from 0. */
  readonly index: number;
}

/** Wraps an image's bytes. */
export function generatedImage(bytes: Uint8Array<ArrayBuffer>, image: ImageResult): GeneratedImage {
  const blob = new Blob([bytes], { type: image.mime_type });
  let url: string | undefined;
  return {
    blob,
    url: () => (url ??= URL.createObjectURL(blob)),
    revoke() {
      if (url !== undefined) URL.revokeObjectURL(url);
      url = undefined;
    },
    seed: image.seed,
    width: image.width,
    height: image.height,
    mimeType: image.mime_type,
    index: image.index,
  };
}

/** Bytes of base64, as the wire carries them. */
export function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index += 1) bytes[index] = binary.charCodeAt(index);
  return bytes;
}

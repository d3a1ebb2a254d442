import { useSyncExternalStore } from "react";
import type { NormalizedRequest, Timings } from "@scumble/sdk";

/** A finished picture and all it takes to draw it again. */
export interface Picture {
  /** `{job id}/{index in the batch}`. */
  readonly id: string;
  readonly jobId: string;
  readonly index: number;
  /** An object URL that lives as long as the picture is in the gallery. */
  readonly src: string;
  readonly blob: Blob;
  readonly seed: number | string;
  readonly width: number;
  readonly height: number;
  readonly mimeType: string;
  readonly request: NormalizedRequest;
  readonly timings: Timings | null;
  readonly warnings: readonly string[];
}

export type NewPicture = Omit<Picture, "id" | "src">;

/** Pictures that the session keeps in memory; the oldest make room. */
const picturesMax = 60;

/**
 * The session's pictures, newest first. It lives outside React because it owns object URLs: each is made once and
 * revoked once, whatever React renders twice.
 */
export class Gallery {
  #pictures: readonly Picture[] = [];
  readonly #listeners = new Set<() => void>();

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly snapshot = (): readonly Picture[] => this.#pictures;

  /** Adds a picture, or completes the one that is there already (its time is known only once the whole batch is). */
  put(picture: NewPicture): void {
    const id = `${picture.jobId}/${picture.index}`;
    const known = this.#pictures.find((other) => other.id === id);
    if (known === undefined) {
      const added = { ...picture, id, src: URL.createObjectURL(picture.blob) };
      const pictures = [added, ...this.#pictures];
      for (const dropped of pictures.slice(picturesMax)) URL.revokeObjectURL(dropped.src);
      this.#pictures = pictures.slice(0, picturesMax);
    } else if (known.timings === null && picture.timings !== null) {
      const completed = { ...known, timings: picture.timings, warnings: picture.warnings };
      this.#pictures = this.#pictures.map((other) => (other === known ? completed : other));
    } else {
      return;
    }
    for (const listener of this.#listeners) listener();
  }
}

export function usePictures(gallery: Gallery): readonly Picture[] {
  return useSyncExternalStore(gallery.subscribe, gallery.snapshot, gallery.snapshot);
}

/** A file name that says what is in it: `a-red-apple-42.png`. */
export function fileName(picture: Picture): string {
  const words = picture.request.prompt
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 60);
  const extension = picture.mimeType.replace("image/", "").replace("jpeg", "jpg");
  return `${words === "" ? "scumble" : words}-${picture.seed}.${extension}`;
}

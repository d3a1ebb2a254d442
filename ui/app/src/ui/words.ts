/** Numbers and messages as a person would say them. */

export function duration(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  return `${minutes} min ${Math.round(seconds - minutes * 60)} s`;
}

/** Time that is left, coarse on purpose: a figure that jumps about says less than a round one. */
export function timeLeft(milliseconds: number): string {
  const seconds = Math.ceil(milliseconds / 1000);
  if (seconds <= 1) return "almost done";
  if (seconds < 60) return `about ${seconds} s left`;
  const minutes = Math.round(seconds / 60);
  return minutes === 1 ? "about a minute left" : `about ${minutes} minutes left`;
}

/** A worker's message as a sentence: they come in lower case, with Rust's ranges and without a full stop. */
export function sentence(message: string): string {
  const readable = message.trim().replaceAll("..=", " to ").replaceAll("_", " ");
  const first = readable.charAt(0).toUpperCase() + readable.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

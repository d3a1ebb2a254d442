import { ScumbleError } from "@scumble/sdk";

/** Whatever was thrown, as the one error class that components see. */
export function asScumbleError(thrown: unknown): ScumbleError {
  if (thrown instanceof ScumbleError) return thrown;
  return new ScumbleError(
    {
      message: thrown instanceof Error ? thrown.message : String(thrown),
      type: "server_error",
      code: "internal_error",
      param: null,
      request_id: null,
    },
    { cause: thrown },
  );
}

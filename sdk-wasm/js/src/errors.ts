import type { ErrorBody, ErrorCode, ErrorObject, ErrorType } from "./generated/protocol.js";

/** What HTTP said beside the error object. */
interface ErrorResponse {
  status: number | undefined;
  requestId: string | undefined;
  retryAfterMs: number | undefined;
}

/**
 * Why a call has no result. Branch on `code`; `message` is for people.
 *
 * Narrower classes exist where a caller is likely to want one: {@link ConnectionError}, {@link JobFailedError},
 * {@link JobCancelledError} and {@link AbortError}.
 */
export class ScumbleError extends Error {
  override name = "ScumbleError";
  /** What went wrong, by a stable name. */
  readonly code: ErrorCode;
  /** The broad class of `code`. */
  readonly type: ErrorType;
  /** The request's field at fault. */
  readonly param: string | undefined;
  /** The HTTP status, where a response came. */
  readonly status: number | undefined;
  /** What to quote when reporting the failure. */
  readonly requestId: string | undefined;
  /** How long the server asked to wait before another try, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  /** Built by the client; an application has no need to. */
  constructor(details: ErrorObject, options?: ErrorOptions & { response?: ErrorResponse }) {
    super(details.message, options);
    this.code = details.code;
    this.type = details.type;
    this.param = details.param ?? undefined;
    this.status = options?.response?.status;
    this.requestId = details.request_id ?? options?.response?.requestId;
    this.retryAfterMs = options?.response?.retryAfterMs;
  }
}

/** The worker cannot be reached, did not answer in time, or said what is not Scumble's. */
export class ConnectionError extends ScumbleError {
  override name = "ConnectionError";
}

/** The job was accepted and then failed. */
export class JobFailedError extends ScumbleError {
  override name = "JobFailedError";
}

/** The job was cancelled, by whomever: there is no result. */
export class JobCancelledError extends ScumbleError {
  override name = "JobCancelledError";
  /** Steps that were done of the image being drawn. */
  readonly step: number;

  /** Built by the client. */
  constructor(step: number) {
    super(errorObject("job_cancelled", "the job was cancelled"));
    this.step = step;
  }
}

/** The call's `AbortSignal` fired; `cause` is the signal's reason. */
export class AbortError extends ScumbleError {
  override name = "AbortError";

  /** Built by the client. */
  constructor(cause?: unknown) {
    super(errorObject("aborted", "the call was aborted by its signal"), { cause });
  }
}

/** What the core rejects with, which knows no words: the kind of failure and what is known of it. */
type Rejection = [
  kind: string,
  text?: string | Uint8Array,
  status?: number,
  requestId?: string,
  retryAfterMs?: number,
];

/** Turns what the core rejected with into a typed error; passes everything else through. */
export function typedError(thrown: unknown, signal?: AbortSignal): unknown {
  if (!Array.isArray(thrown)) return thrown;
  const [kind, text, status, requestId, retryAfterMs] = thrown as Rejection;
  switch (kind) {
    case "aborted":
      return new AbortError(signal?.reason);
    case "invalid_job_id":
      return new ScumbleError({
        ...errorObject("invalid_value", "job_id must be a job id as the worker gave it"),
        param: "job_id",
      });
    case "refused":
      return refused(text as Uint8Array, { status, requestId, retryAfterMs });
    case "timeout":
      return new ConnectionError(errorObject("timeout", "the worker did not answer within timeoutMs"));
    case "connection_failed":
      return new ConnectionError(
        errorObject("connection_failed", `the worker cannot be reached: ${String(text)}`),
      );
    default:
      return invalidResponse(String(text));
  }
}

/** The server's words are not the contract's. */
export function invalidResponse(what: string): ConnectionError {
  return new ConnectionError(
    errorObject("invalid_response", `the server's answer is not Scumble's: ${what}`),
  );
}

/** What a bare status means, where a proxy answered and no error object came. */
const CODES_BY_STATUS: Partial<Record<number, ErrorCode>> = {
  401: "invalid_api_key",
  403: "forbidden_origin",
  404: "not_found",
  413: "payload_too_large",
  429: "queue_full",
  502: "connection_failed",
  503: "connection_failed",
  504: "connection_failed",
};

function refused(body: Uint8Array, response: ErrorResponse): ScumbleError {
  const error = parseErrorBody(body);
  if (error) return new ScumbleError(error, { response });
  const status = response.status ?? 0;
  const object = errorObject(
    CODES_BY_STATUS[status] ?? "invalid_response",
    `the server answered ${String(status)}`,
  );
  return new (object.type === "connection_error" ? ConnectionError : ScumbleError)(object, { response });
}

function parseErrorBody(body: Uint8Array): ErrorObject | undefined {
  try {
    const { error } = JSON.parse(new TextDecoder().decode(body)) as Partial<ErrorBody>;
    return typeof error?.message === "string" && typeof error.code === "string" ? error : undefined;
  } catch {
    return undefined;
  }
}

function errorObject(code: ErrorCode, message: string): ErrorObject {
  return {
    message,
    type: TYPES_BY_CODE[code] ?? "invalid_request_error",
    code,
    param: null,
    request_id: null,
  };
}

const TYPES_BY_CODE: Partial<Record<ErrorCode, ErrorType>> = {
  invalid_api_key: "authentication_error",
  queue_full: "rate_limit_error",
  internal_error: "server_error",
  connection_failed: "connection_error",
  invalid_response: "connection_error",
  timeout: "connection_error",
};

/** Something broke on this side. */
export function internalError(message: string): ScumbleError {
  return new ScumbleError(errorObject("internal_error", message));
}

/** A value that the caller gave is outside its bound. */
export function invalidValue(param: string, rule: string): ScumbleError {
  return new ScumbleError({ ...errorObject("invalid_value", `${param} ${rule}`), param });
}

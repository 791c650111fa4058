/** What can go wrong, as classes: one for each error code of the API, and those of the way to it. */

/** Everything this package throws, but what an AbortSignal brings and TypeErrors of wrong arguments. */
export class RetireClusterError extends Error {
  /**
   * @param {string} message
   * @param {object} [facts]
   * @param {string} [facts.code] the API's `error_code`; of other failures a word of this package
   * @param {number} [facts.status] HTTP status; 0 without an answer
   * @param {object} [facts.details] the answer's `error_details`
   * @param {string} [facts.requestId] as in the server's log
   * @param {number} [facts.retryAfterMs] how long the server asked to wait
   * @param {unknown} [facts.cause]
   */
  constructor(message, { code = "", status = 0, details = {}, requestId = "", retryAfterMs, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.code = code;
    this.status = status;
    this.details = details;
    this.field = typeof details.field === "string" ? details.field : "";
    this.reason = typeof details.reason === "string" ? details.reason : "";
    this.requestId = requestId;
    this.retryAfterMs = retryAfterMs;
    /** Tasks that the same submitMany had submitted before. */
    this.submitted = [];
  }
}

/** The server cannot be reached, or the connection broke before the answer was there. */
export class ConnectionFailed extends RetireClusterError {}

/** No answer came in time. */
export class Timeout extends ConnectionFailed {}

/** A wait is over and the work is not; `open` has the ids of the tasks that have not ended. They go on running. */
export class DeadlinePassed extends RetireClusterError {
  constructor(message, open) {
    super(message, { code: "DEADLINE_PASSED" });
    this.open = open;
  }
}

/** What answers there does not speak this API. */
export class UnexpectedAnswer extends RetireClusterError {}

/** The server's refusal. */
export class ApiError extends RetireClusterError {}

export class ValidationFailed extends ApiError {}
export class Unauthorized extends ApiError {}
export class Forbidden extends ApiError {}
export class NotFound extends ApiError {}
export class DeviceNotFound extends NotFound {}
export class TaskNotFound extends NotFound {}
export class ResultNotReady extends NotFound {}
export class MethodNotAllowed extends ApiError {}
export class NotAcceptable extends ApiError {}
export class Conflict extends ApiError {}
export class UpgradeRequired extends ApiError {}
export class IdempotencyMismatch extends Conflict {}
export class PreconditionFailed extends ApiError {}
export class PayloadTooLarge extends ApiError {}
export class UnsupportedMediaType extends ApiError {}
export class RateLimited extends ApiError {}
export class ServerFailed extends ApiError {}
export class Unavailable extends ApiError {}

/** The class of each error code; a newer server's code is an ApiError. */
export const ERRORS_BY_CODE = Object.freeze({
  VALIDATION_ERROR: ValidationFailed,
  UNAUTHORIZED: Unauthorized,
  FORBIDDEN: Forbidden,
  NOT_FOUND: NotFound,
  DEVICE_NOT_FOUND: DeviceNotFound,
  TASK_NOT_FOUND: TaskNotFound,
  RESULT_NOT_READY: ResultNotReady,
  METHOD_NOT_ALLOWED: MethodNotAllowed,
  NOT_ACCEPTABLE: NotAcceptable,
  CONFLICT: Conflict,
  UPGRADE_REQUIRED: UpgradeRequired,
  IDEMPOTENCY_MISMATCH: IdempotencyMismatch,
  PRECONDITION_FAILED: PreconditionFailed,
  PAYLOAD_TOO_LARGE: PayloadTooLarge,
  UNSUPPORTED_MEDIA_TYPE: UnsupportedMediaType,
  RATE_LIMIT_EXCEEDED: RateLimited,
  INTERNAL_ERROR: ServerFailed,
  SERVICE_UNAVAILABLE: Unavailable,
});

/** Types of the package. Objects are as docs/reference/openapi.yaml has them; times are RFC 3339 texts in UTC. */

export type TaskState = "pending" | "queued" | "assigned" | "running" | "success" | "failed" | "cancelled" | "timeout";
export type Priority = "low" | "normal" | "high" | "urgent";
export type Role = "worker" | "compute" | "storage" | "mobile";
export type Platform = "linux" | "windows" | "android" | "darwin";
export type Scope = "read" | "submit" | "execute" | "operate" | "admin";
export type Topic = "task" | "device" | "cluster" | "config";
export type Outcome = "success" | "failed" | "timeout" | "cancelled" | "returned" | "lost";
export type ErrorCode = keyof typeof ERRORS_BY_CODE;
export type JsonObject = Record<string, unknown>;
export type Counts = Record<string, number>;

// --- options ------------------------------------------------------------------------------------------------------

export interface CallOptions {
  /** Ends the call, its pauses and its further tries; it rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface ClientOptions {
  apiKey?: string;
  /** For one try of a call; 30,000 by default. What the server was asked to wait comes on top. */
  timeoutMs?: number;
  /** Further tries of a call that may be repeated; 5 by default. */
  retries?: number;
  /** A server that asks for a longer pause gets no further try; 120,000 by default. */
  longestPauseMs?: number;
  /** Instead of the global one. */
  fetch?: typeof fetch;
}

export interface Requirements {
  min_cpu_cores?: number | null;
  min_memory_gb?: number | null;
  min_storage_gb?: number | null;
  required_platform?: Platform | null;
  required_role?: Role | null;
  required_tags?: string[];
  gpu_required?: boolean;
  internet_required?: boolean;
  timeout_seconds?: number;
  max_retries?: number;
  on_device_loss?: "requeue" | "fail";
}

export interface TaskOptions {
  priority?: Priority;
  requirements?: Requirements;
  metadata?: JsonObject;
}

export interface Submission extends TaskOptions {
  task_type: string;
  payload: JsonObject;
}

export interface SubmitOptions extends TaskOptions, CallOptions {
  /** One of your own makes a submission the same even after a restart of your program; 1 to 255 characters. */
  idempotencyKey?: string;
  /** Seconds, at most 60, to wait for the end of the task. */
  wait?: number;
}

export interface WaitOptions extends CallOptions {
  /** In all; without it the wait lasts as long as the task. */
  timeoutMs?: number;
  /** Told of an outage of the server, once the usual tries of a call are used up; the wait goes on. */
  onDisconnect?: (outage: Outage) => void;
}

export interface WaitAllOptions extends WaitOptions {
  /** Called once a task, when it has ended. */
  onProgress?: (task: Task, done: number, total: number) => void;
}

export interface ServerWaitOptions extends CallOptions {
  /** Seconds, at most 60, the server may take until the task ends. */
  wait?: number;
}

export interface LogOptions extends CallOptions {
  /** Where to go on: the `offset` of a chunk and the length of its text. */
  offset?: number;
  /** Go on until the task ends. */
  follow?: boolean;
  /** With `follow`: told of an outage of the server, once the usual tries of a call are used up. */
  onDisconnect?: (outage: Outage) => void;
}

export interface TaskFilters {
  status?: TaskState | TaskState[];
  task_type?: string | string[];
  priority?: Priority | Priority[];
  device_id?: string | string[];
  created_after?: string;
  created_before?: string;
  page_size?: number;
}

export interface DeviceFilters {
  status?: "online" | "offline" | "all";
  role?: Role;
  platform?: Platform;
  tags?: string | string[];
  page_size?: number;
}

export interface AuditFilters {
  action?: string | string[];
  actor?: string | string[];
  target?: string | string[];
  since?: string;
  until?: string;
  page_size?: number;
}

export interface EventOptions extends CallOptions {
  topics?: Topic[];
  taskId?: string;
  /** The `cursor` of the last frame seen: go on behind it. */
  since?: string;
  /** Told of each lost connection, before the pause after which the next one is tried. */
  onDisconnect?: (outage: Outage) => void;
}

export interface Outage {
  reason: string;
  failures: number;
  retryInMs: number;
}

// --- tasks --------------------------------------------------------------------------------------------------------

export interface CreatedTask {
  task_id: string;
  task_type: string;
  status: TaskState;
  priority: Priority;
  created_at: string;
}

export interface Task extends CreatedTask {
  assigned_device_id: string | null;
  assigned_at: string | null;
  started_at: string | null;
  completed_at: string | null;
  execution_time_seconds: number | null;
  retry_count: number;
  progress: number | null;
}

/** A submission's answer: with `wait` it has a task's other members, and its result if it ended. */
export type SubmittedTask = CreatedTask & Partial<Task> & { result?: unknown };

export interface TaskAction extends Task {
  cancel_requested: boolean;
}

export interface TaskStatus extends TaskAction {
  progress_message: string | null;
  is_terminal: boolean;
  can_retry: boolean;
  queue_reason: string | null;
}

export interface TaskError {
  attempt: number;
  device_id: string;
  outcome: Outcome;
  error_code: string | null;
  error_message: string | null;
  at: string | null;
}

export interface LateReport {
  outcome: Outcome;
  reported_at: string;
  ran_s: number;
  error_message: string;
  result: string;
}

export interface Attempt {
  number: number;
  round: number;
  device_id: string;
  state: "offered" | "running" | "ended";
  outcome: Outcome | null;
  reason: string | null;
  confirmed: boolean | null;
  assigned_at: string;
  started_at: string | null;
  ended_at: string | null;
  execution_time_seconds: number | null;
  error_message: string | null;
  error_traceback: string | null;
  late: LateReport | null;
}

export interface TaskDetail extends Task {
  payload: JsonObject;
  requirements: Requirements;
  metadata: JsonObject;
  error_history: TaskError[];
  attempts: Attempt[];
  result: any;
}

export interface TaskResult {
  task_id: string;
  status: "success" | "failed" | "cancelled" | "timeout";
  result_data: any;
  execution_time_seconds: number;
  worker_device_id: string | null;
  started_at: string | null;
  completed_at: string;
  error_message: string | null;
  error_traceback: string | null;
}

export interface OutputChunk {
  offset: number;
  attempt: number;
  stream: "stdout" | "stderr" | "log";
  text: string;
  at: string;
  /** Characters before this chunk that were not kept. */
  left_out: number;
}

export interface Check {
  check: string;
  passed: boolean;
  wanted: string;
  found: string;
}

export interface JudgedDevice {
  device_id: string;
  fits: boolean;
  available: boolean;
  checks: Check[];
}

export interface Explanation {
  reason: string;
  total_devices: number;
  fitting_devices: number;
  available_devices: number;
  devices: JudgedDevice[];
}

export interface DryRun extends Explanation {
  dry_run: boolean;
}

export interface TaskExplanation extends Explanation {
  task_id: string;
  status: TaskState;
}

export interface TaskTypes {
  supported_types: string[];
  devices_by_type: Counts;
  builtin_types: string[];
  custom_types: string[];
  total_count: number;
  online_devices: number;
}

export interface QueueStats {
  total_tasks: number;
  by_status: Counts;
  by_priority: Counts;
  by_device: Counts;
}

export interface Statistics {
  queue_stats: QueueStats;
  performance_metrics: {
    success_rate: number;
    average_execution_time: number;
    tasks_per_hour: number;
    device_utilization: Counts;
  };
  current_load: { pending_tasks: number; running_tasks: number; capacity_utilization: number };
}

// --- devices ------------------------------------------------------------------------------------------------------

export interface Device {
  device_id: string;
  role: Role;
  platform: Platform;
  status: "online" | "offline";
  status_reason: string;
  ip_address: string | null;
  last_heartbeat: string | null;
  uptime: string | null;
  capabilities: {
    cpu_count: number | null;
    memory_total_gb: number | null;
    storage_total_gb: number | null;
    has_gpu: boolean | null;
  };
  tags: string[];
  slots: number;
  running_tasks: number;
}

export interface DeviceDetail extends Device {
  registration_time: string;
  total_heartbeats: number;
  agent_version: string;
  task_types: string[];
  full_capabilities: JsonObject;
  latest_metrics: JsonObject;
  metrics_history: JsonObject[];
}

export interface DeviceStatus {
  device_id: string;
  status: "online" | "offline";
  is_online: boolean;
  status_reason: string;
  last_heartbeat: string | null;
  uptime: string | null;
  response_time_ms: number | null;
  current_load: {
    slots: number;
    running_tasks: number;
    cpu_percent: number | null;
    memory_percent: number | null;
    battery_percent: number | null;
    charging: boolean | null;
    temperature: number | null;
  };
  last_metrics: JsonObject;
}

export interface Spread {
  min: number;
  avg: number;
  max: number;
}

export interface DeviceMetrics {
  device_id: string;
  since: string;
  until: string;
  interval_seconds: number;
  samples: {
    timestamp: string;
    heartbeats: number;
    cpu_percent: Spread | null;
    memory_percent: Spread | null;
    battery_percent: Spread | null;
    temperature: Spread | null;
    running_tasks: Spread | null;
  }[];
}

export interface Resources {
  cpu_cores: number;
  memory_gb: number;
  storage_gb: number;
}

export interface DeviceSummary {
  total_devices: number;
  online_devices: number;
  offline_devices: number;
  by_role: Counts;
  by_platform: Counts;
  by_status: Counts;
  resource_totals: Resources;
  capabilities: { gpu_enabled: number; mobile_devices: number; server_grade: number };
}

export interface DevicePing {
  device_id: string;
  ping_successful: boolean;
  response_time_ms: number | null;
  ping_timestamp: string;
  reason?: string;
}

export interface DeviceService {
  device_id: string;
  status: "online" | "offline";
  status_reason: string;
  cordoned: boolean;
  draining: boolean;
  drain_deadline: string | null;
  running_tasks: number;
}

export interface DeviceRemoval {
  device_id: string;
  removed_at: string;
  was_online: boolean;
}

// --- cluster and configuration ------------------------------------------------------------------------------------

export interface ClusterStats {
  total_devices: number;
  online_devices: number;
  offline_devices: number;
  health_percentage: number;
  total_resources: Resources;
  by_role: Counts;
  by_platform: Counts;
}

export interface ClusterStatus {
  cluster_stats: ClusterStats;
  server_info: { version: string; uptime: string | null; host: string; port: number };
}

export interface ClusterMetrics {
  devices: { total: number; online: number; by_role: Counts; by_platform: Counts };
  resources: {
    total_cpu_cores: number;
    total_memory_gb: number;
    total_storage_gb: number;
    cpu_percent: number | null;
    memory_percent: number | null;
    slots_total: number;
    slots_busy: number;
  };
  tasks: { queue_stats: QueueStats };
  performance: {
    success_rate: number;
    average_execution_time: number;
    tasks_per_hour: number;
    queue_wait_p50_seconds: number | null;
    queue_wait_p95_seconds: number | null;
    request_rate: number;
    error_rate: number;
  };
}

export interface ClusterConfig {
  server: { host: string; port: number; max_connections: number };
  heartbeat: { interval: number; timeout: number; max_missed: number };
  features: {
    task_scheduling: boolean;
    api_enabled: boolean;
    auth_required: boolean;
    websocket: boolean;
    tls: boolean;
  };
}

/** The sections of the configuration. A newer server may have more values. */
export interface Config {
  server: { max_connections: number; host: string; port: number };
  heartbeat: { interval: number; timeout: number; max_missed: number; reconnect_grace: number };
  scheduler: { max_device_losses: number };
  retention: { tasks_days: number; output_days: number; metrics_days: number; audit_days: number };
}

export interface ConfigSection<Values> {
  values: Values;
  /** For `ifMatch`. */
  etag: string | null;
}

export type ComponentHealth = "healthy" | "degraded" | "unhealthy";

export interface Health {
  status: ComponentHealth;
  timestamp: string;
  components: { api: ComponentHealth; cluster_server: ComponentHealth; task_scheduler: ComponentHealth };
  services?: Record<string, JsonObject>;
}

// --- keys, join tokens, audit trail -------------------------------------------------------------------------------

export interface Expiry {
  expires_at?: string | null;
  expires_in_seconds?: number | null;
}

export interface NewKeyRequest extends Expiry {
  name: string;
  scopes: Scope[];
  task_types?: string[];
  rate_limits?: string;
}

export interface Key {
  id: string;
  name: string;
  prefix: string;
  scopes: Scope[];
  task_types: string[];
  rate_limits: string | null;
  is_active: boolean;
  created_by: string | null;
  created_at: string;
  expires_at: string | null;
  revoked_at: string | null;
  last_used_at: string | null;
}

export interface NewKey extends Key {
  /** The key's text, shown only now. */
  key: string;
}

export interface NewJoinTokenRequest extends Expiry {
  name: string;
  role?: Role | null;
  tags?: string[];
  task_types?: string[];
  max_slots?: number | null;
  max_uses?: number | null;
}

export interface JoinToken {
  id: string;
  name: string;
  role: Role | null;
  tags: string[];
  task_types: string[];
  max_slots: number | null;
  uses: number;
  max_uses: number | null;
  is_active: boolean;
  created_by: string | null;
  created_at: string;
  expires_at: string | null;
  revoked_at: string | null;
}

export interface NewJoinToken extends JoinToken {
  /** The token's text, shown only now. */
  token: string;
  join_command: string;
}

export interface AuditEntry {
  id: number;
  at: string;
  actor: string | null;
  address: string | null;
  action: string;
  target: string | null;
  details: JsonObject;
  request_id: string | null;
}

// --- events -------------------------------------------------------------------------------------------------------

/** What a task's events tell of it. */
export interface TaskNews {
  task_id: string;
  status: TaskState;
  /** Of two events about a task the one with the higher version is the newer. */
  version: number;
  device_id: string | null;
  attempt: number | null;
  progress: number | null;
  progress_message: string | null;
  cancel_requested: boolean;
  is_terminal: boolean;
}

export interface Snapshot {
  cluster?: ClusterStats;
  devices?: (Pick<Device, "device_id" | "status" | "role" | "platform"> & JsonObject)[];
  tasks?: Counts;
  /** With `taskId`; null if there is none. */
  task?: (Task & { version: number }) | null;
}

interface FrameOf<Type extends string, Data> {
  type: Type;
  /** Numbers all events of the cluster without a gap. */
  seq: number;
  /** For `since`. */
  cursor: string;
  timestamp: string;
  data: Data;
}

/** A frame of `/ws`; docs/reference/events.md has each type. A newer server may send further types. */
export type Frame =
  | FrameOf<"snapshot", Snapshot>
  | FrameOf<"reset", { reason: string }>
  | FrameOf<"task.submitted", { task_ids: string[]; count: number; task_types: string[]; status: TaskState }>
  | FrameOf<
      | "task.queued"
      | "task.pending"
      | "task.assigned"
      | "task.running"
      | "task.progress"
      | "task.cancelling"
      | "task.finished",
      TaskNews
    >
  | FrameOf<"task.output", { task_id: string; offset: number }>
  | FrameOf<"device.online" | "device.offline" | "device.changed" | "device.removed", { device_id: string } & JsonObject>
  | FrameOf<"cluster.gateway_started" | "cluster.gateway_stopped", { gateway_id: string } & JsonObject>
  | FrameOf<"config.changed", { section: string; version: number }>;

// --- clients ------------------------------------------------------------------------------------------------------

/**
 * All of the REST API and its events. Every method throws a RetireClusterError, or the reason of its signal.
 *
 * Connection failures and 502, 503 and 429 are tried again with back-off, as the server's Retry-After says: reads and
 * submissions always, other changes only where it is certain that they were not made.
 */
export class Client {
  /** @param baseUrl The server's address, with or without `/api/v1`. */
  constructor(baseUrl: string, options?: ClientOptions);

  readonly baseUrl: string;
  /** Sent with every call. */
  readonly headers: Record<string, string>;

  /** Submit a task. It runs once, however often the call has to be repeated. */
  submit(taskType: string, payload?: JsonObject, options?: SubmitOptions): Promise<SubmittedTask>;
  /** What would become of a task like this. Nothing is submitted. */
  dryRun(taskType: string, payload?: JsonObject, options?: TaskOptions & CallOptions): Promise<DryRun>;
  /**
   * Submit tasks in batches of up to 1000, each all or nothing. An error holds in `submitted` the tasks of the batches
   * before.
   */
  submitMany(tasks: Iterable<Submission>, options?: CallOptions): Promise<CreatedTask[]>;
  /** Wait for the end of a task. Throws DeadlinePassed. */
  wait(taskId: string, options?: WaitOptions): Promise<TaskStatus>;
  /** Wait for the end of all; the tasks in the order of their ids. Throws DeadlinePassed. */
  waitAll(taskIds: Iterable<string>, options?: WaitAllOptions): Promise<Task[]>;
  /** Results in the order of the ids, each as soon as it is there. Throws DeadlinePassed at the first that is late. */
  results(taskIds: Iterable<string>, options?: WaitOptions): AsyncGenerator<TaskResult, void, undefined>;
  /** The task's status at its end, or when so many seconds are over. */
  settle(taskId: string, seconds: number, signal?: AbortSignal): Promise<TaskStatus>;
  /** Tasks, newest first. */
  tasks(filters?: TaskFilters, options?: CallOptions): AsyncGenerator<Task, void, undefined>;
  task(taskId: string, options?: CallOptions): Promise<TaskDetail>;
  status(taskId: string, options?: ServerWaitOptions): Promise<TaskStatus>;
  /** Submit, wait and return the result. Throws DeadlinePassed. */
  run(taskType: string, payload?: JsonObject, options?: Omit<SubmitOptions, "wait"> & WaitOptions): Promise<TaskResult>;
  /** Throws ResultNotReady while the task has not ended. */
  result(taskId: string, options?: ServerWaitOptions): Promise<TaskResult>;
  /** Throws Conflict where its state does not allow it. */
  cancel(taskId: string, options?: CallOptions): Promise<TaskAction>;
  /** Throws Conflict where its state does not allow it. */
  retry(taskId: string, options?: CallOptions): Promise<TaskAction>;
  explain(taskId: string, options?: CallOptions): Promise<TaskExplanation>;
  /** What it printed; with `follow` until it ends. */
  logs(taskId: string, options?: LogOptions): AsyncGenerator<OutputChunk, void, undefined>;
  types(options?: CallOptions): Promise<TaskTypes>;
  statistics(options?: CallOptions): Promise<Statistics>;

  /** Devices, newest first. */
  devices(filters?: DeviceFilters, options?: CallOptions): AsyncGenerator<Device, void, undefined>;
  device(deviceId: string, options?: CallOptions): Promise<DeviceDetail>;
  deviceStatus(deviceId: string, options?: CallOptions): Promise<DeviceStatus>;
  deviceMetrics(deviceId: string, options?: CallOptions & { hours?: number }): Promise<DeviceMetrics>;
  devicesSummary(options?: CallOptions): Promise<DeviceSummary>;
  ping(deviceId: string, options?: CallOptions): Promise<DevicePing>;
  cordon(deviceId: string, options?: CallOptions & { reason?: string }): Promise<DeviceService>;
  drain(
    deviceId: string,
    options?: CallOptions & { reason?: string; deadlineSeconds?: number },
  ): Promise<DeviceService>;
  uncordon(deviceId: string, options?: CallOptions & { reason?: string }): Promise<DeviceService>;
  /** For good: it comes back only by joining anew. */
  remove(deviceId: string, options?: CallOptions): Promise<DeviceRemoval>;

  index(options?: CallOptions): Promise<{ links: Record<string, string> }>;
  health(options?: CallOptions): Promise<Health>;
  clusterStatus(options?: CallOptions): Promise<ClusterStatus>;
  metrics(options?: CallOptions): Promise<ClusterMetrics>;
  clusterConfig(options?: CallOptions): Promise<ClusterConfig>;
  config(options?: CallOptions): Promise<Config>;
  configSection<Name extends keyof Config>(section: Name, options?: CallOptions): Promise<ConfigSection<Config[Name]>>;
  /** Throws PreconditionFailed if the section has changed since the ETag was read. */
  changeConfig<Name extends keyof Config>(
    section: Name,
    values: Partial<Config[Name]>,
    options?: CallOptions & { ifMatch?: string },
  ): Promise<ConfigSection<Config[Name]>>;
  resetConfig(options?: CallOptions): Promise<Config>;

  keys(options?: CallOptions): AsyncGenerator<Key, void, undefined>;
  key(keyId: string, options?: CallOptions): Promise<Key>;
  createKey(body: NewKeyRequest, options?: CallOptions): Promise<NewKey>;
  /** The key in use only with `own`. */
  revokeKey(keyId: string, options?: CallOptions & { own?: boolean }): Promise<Key>;
  joinTokens(options?: CallOptions): AsyncGenerator<JoinToken, void, undefined>;
  joinToken(tokenId: string, options?: CallOptions): Promise<JoinToken>;
  createJoinToken(body: NewJoinTokenRequest, options?: CallOptions): Promise<NewJoinToken>;
  revokeJoinToken(tokenId: string, options?: CallOptions): Promise<JoinToken>;
  audit(filters?: AuditFilters, options?: CallOptions): AsyncGenerator<AuditEntry, void, undefined>;
  /** Opens `/ws` once where no header can be sent; events() asks for its own. */
  wsTicket(options?: CallOptions): Promise<{ ticket: string; expires_at: string }>;

  /**
   * The cluster's events in order, over as many connections as it takes: first a `snapshot` (without `since`), then
   * each event once; where some are lost for good, a `reset` and a `snapshot` say so. Leave the loop or abort the
   * signal to end it.
   */
  events(options?: EventOptions): AsyncGenerator<Frame, void, undefined>;
}

/** Every answer of the API. */
export interface Envelope<Data> {
  status: "success" | "error";
  data?: Data;
  message?: string;
  error_code?: string;
  error_details?: JsonObject;
  timestamp: string;
  request_id: string;
}

/** The client of the API's specification: two methods that return the whole answer, and everything of Client. */
export class RetireClusterAPI extends Client {
  constructor(baseUrl: string, apiKey?: string, options?: Omit<ClientOptions, "apiKey">);
  getClusterStatus(): Promise<Envelope<ClusterStatus>>;
  submitTask(
    taskType: string,
    payload: JsonObject,
    options?: TaskOptions,
  ): Promise<Envelope<{ task_id: string; task: CreatedTask }>>;
}

// --- errors -------------------------------------------------------------------------------------------------------

/** Everything the package throws, but the reasons of signals and TypeErrors of wrong arguments. */
export class RetireClusterError extends Error {
  /** The API's `error_code`; CONNECTION_FAILED, TIMEOUT, UNEXPECTED_ANSWER or DEADLINE_PASSED where it gave none. */
  readonly code: ErrorCode | (string & {});
  /** HTTP status; 0 without an answer. */
  readonly status: number;
  /** What is at fault, where it is one thing; else empty. */
  readonly field: string;
  readonly reason: string;
  readonly details: JsonObject;
  /** As in the server's log; empty without an answer. */
  readonly requestId: string;
  /** How long the server asked to wait. */
  readonly retryAfterMs?: number;
  /** Of submitMany: the tasks of the batches before. */
  readonly submitted: CreatedTask[];
}

export class ConnectionFailed extends RetireClusterError {}
export class Timeout extends ConnectionFailed {}
export class UnexpectedAnswer extends RetireClusterError {}
export class DeadlinePassed extends RetireClusterError {
  /** Ids of the tasks that have not ended; they go on. */
  readonly open: string[];
}

/** A refusal; each error code has a class below. */
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

export const ERRORS_BY_CODE: Readonly<{
  VALIDATION_ERROR: typeof ValidationFailed;
  UNAUTHORIZED: typeof Unauthorized;
  FORBIDDEN: typeof Forbidden;
  NOT_FOUND: typeof NotFound;
  DEVICE_NOT_FOUND: typeof DeviceNotFound;
  TASK_NOT_FOUND: typeof TaskNotFound;
  RESULT_NOT_READY: typeof ResultNotReady;
  METHOD_NOT_ALLOWED: typeof MethodNotAllowed;
  NOT_ACCEPTABLE: typeof NotAcceptable;
  CONFLICT: typeof Conflict;
  UPGRADE_REQUIRED: typeof UpgradeRequired;
  IDEMPOTENCY_MISMATCH: typeof IdempotencyMismatch;
  PRECONDITION_FAILED: typeof PreconditionFailed;
  PAYLOAD_TOO_LARGE: typeof PayloadTooLarge;
  UNSUPPORTED_MEDIA_TYPE: typeof UnsupportedMediaType;
  RATE_LIMIT_EXCEEDED: typeof RateLimited;
  INTERNAL_ERROR: typeof ServerFailed;
  SERVICE_UNAVAILABLE: typeof Unavailable;
}>;

/** Uses all of the package as a program in TypeScript would. It is compiled, never run. */

import {
  ApiError,
  Client,
  Conflict,
  ConnectionFailed,
  DeadlinePassed,
  DeviceNotFound,
  ERRORS_BY_CODE,
  Forbidden,
  IdempotencyMismatch,
  MethodNotAllowed,
  NotAcceptable,
  NotFound,
  PayloadTooLarge,
  PreconditionFailed,
  RateLimited,
  ResultNotReady,
  RetireClusterAPI,
  RetireClusterError,
  ServerFailed,
  TaskNotFound,
  Timeout,
  Unauthorized,
  Unavailable,
  UnexpectedAnswer,
  UnsupportedMediaType,
  UpgradeRequired,
  ValidationFailed,
} from "retire-cluster";
import type { ClientOptions, Frame, Submission, Task } from "retire-cluster";

const signal = new AbortController().signal;
const options: ClientOptions = { apiKey: "k", timeoutMs: 1, retries: 1, longestPauseMs: 1, fetch };
const client = new Client("http://localhost:8081", options);
const words: string[] = [client.baseUrl, ...Object.values(client.headers)];

async function tasks(): Promise<Task[]> {
  const submission: Submission = { task_type: "echo", payload: {}, priority: "low", requirements: { required_tags: [] } };
  const one = await client.submit("echo", { a: 1 }, { priority: "high", idempotencyKey: "i", wait: 1, signal });
  const many = await client.submitMany([submission], { signal });
  const id: string = one.task_id;
  words.push((await client.dryRun("echo", {}, { metadata: {}, signal })).reason);
  words.push((await client.wait(id, { timeoutMs: 1, signal })).status, (await client.settle(id, 1, signal)).status);
  words.push((await client.task(id)).attempts[0].device_id, (await client.status(id, { wait: 1 })).queue_reason ?? "");
  words.push((await client.result(id, { wait: 1 })).result_data.echo, (await client.explain(id)).devices[0].checks[0].found);
  words.push((await client.run("echo", {}, { timeoutMs: 1, signal })).status, (await client.wsTicket()).ticket);
  const flags: boolean[] = [(await client.cancel(id)).cancel_requested, (await client.retry(id)).cancel_requested];
  words.push(String(flags), ...(await client.types()).supported_types);
  const waiting: number = (await client.statistics()).current_load.pending_tasks;
  for await (const chunk of client.logs(id, { offset: waiting, follow: true, signal })) {
    words.push(chunk.text);
  }
  for await (const task of client.tasks({ status: ["queued", "running"] }, { signal })) {
    words.push(task.created_at);
  }
  const onProgress = (task: Task, done: number, total: number) => words.push(`${task.task_id} ${done}/${total}`);
  for await (const result of client.results(many.map((task) => task.task_id), { timeoutMs: 1, signal })) console.log(result.status);
  return client.waitAll(many.map((task) => task.task_id), { timeoutMs: 1, onProgress, signal });
}

async function devices(id: string): Promise<void> {
  for await (const device of client.devices({ status: "online", tags: ["a"] }, { signal })) {
    words.push(device.device_id, device.capabilities.cpu_count?.toFixed() ?? "");
  }
  words.push((await client.device(id)).agent_version, (await client.deviceStatus(id)).status_reason);
  words.push((await client.deviceMetrics(id, { hours: 1 })).samples[0].timestamp);
  words.push(String((await client.devicesSummary()).resource_totals.memory_gb), (await client.ping(id)).reason ?? "");
  words.push((await client.cordon(id, { reason: "r" })).status, (await client.uncordon(id)).status);
  words.push((await client.drain(id, { deadlineSeconds: 1 })).drain_deadline ?? "", (await client.remove(id)).removed_at);
}

async function operating(): Promise<void> {
  words.push((await client.index()).links.tasks, (await client.health()).components.api);
  words.push((await client.clusterStatus()).server_info.version, String((await client.metrics()).resources.slots_busy));
  words.push((await client.clusterConfig()).server.host, String((await client.config()).retention.tasks_days));
  const section = await client.configSection("heartbeat");
  await client.changeConfig("heartbeat", { interval: section.values.interval + 1 }, { ifMatch: section.etag ?? undefined });
  await client.resetConfig();
  const made = await client.createKey({ name: "n", scopes: ["read"], expires_in_seconds: 1 });
  words.push(made.key, (await client.key(made.id)).prefix, (await client.revokeKey(made.id, { own: true })).name);
  const token = await client.createJoinToken({ name: "n", role: "mobile", tags: ["a"] });
  words.push(token.join_command, (await client.joinToken(token.id)).name, (await client.revokeJoinToken(token.id)).name);
  for await (const row of client.keys()) words.push(row.id);
  for await (const row of client.joinTokens()) words.push(row.id);
  for await (const row of client.audit({ action: "key.create" })) words.push(row.action);
}

async function listening(): Promise<void> {
  const onDisconnect = (outage: { reason: string; failures: number; retryInMs: number }) => words.push(outage.reason);
  for await (const frame of client.events({ topics: ["task"], taskId: "t", since: "c", signal, onDisconnect })) {
    words.push(told(frame), frame.cursor);
  }
}

/** The type of a frame says what its data is. */
function told(frame: Frame): string {
  switch (frame.type) {
    case "task.finished":
      return frame.data.status;
    case "task.submitted":
      return frame.data.task_ids.join();
    case "snapshot":
      return frame.data.devices?.[0].device_id ?? "";
    default:
      return frame.type;
  }
}

async function specification(): Promise<void> {
  const api = new RetireClusterAPI("http://localhost:8081/api/v1", "k");
  words.push((await api.getClusterStatus()).data?.server_info.version ?? "");
  words.push((await api.submitTask("echo", { message: "Hello" }, { priority: "low" })).data?.task_id ?? "");
}

function explained(error: unknown): string {
  if (error instanceof DeadlinePassed) return error.open.join();
  const known = [ApiError, ConnectionFailed, Timeout, UnexpectedAnswer, ValidationFailed, Unauthorized, Forbidden];
  const more = [NotFound, DeviceNotFound, TaskNotFound, ResultNotReady, MethodNotAllowed, NotAcceptable, Conflict];
  const rest = [UpgradeRequired, IdempotencyMismatch, PreconditionFailed, PayloadTooLarge, UnsupportedMediaType];
  const last = [RateLimited, ServerFailed, Unavailable, ERRORS_BY_CODE.CONFLICT];
  const kind = [...known, ...more, ...rest, ...last].find((one) => error instanceof one);
  if (!(error instanceof RetireClusterError)) throw error;
  const { code, status, field, reason, details, requestId, retryAfterMs, submitted } = error;
  return [kind?.name, code, status, field, reason, Object.keys(details), requestId, retryAfterMs, submitted.length].join();
}

Promise.all([tasks(), devices("d"), operating(), listening(), specification()]).catch(explained);

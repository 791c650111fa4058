/** Waiting for many tasks costs few requests; a client that is none tells how many. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { DeadlinePassed } from "../src/index.js";
import { waitAll } from "../src/waitall.js";

const PAGE = 100;
const START = Date.parse("2026-11-28T10:00:00Z");

/** Tasks, a millisecond apart; `open` has those that have not ended. It counts pages and single questions. */
class Cluster {
  pages = 0;
  asked = 0;

  constructor(count, open = []) {
    this.ids = Array.from({ length: count }, (_, n) => `t${String(n).padStart(6, "0")}`);
    this.open = new Set(open.map((n) => this.ids[n]));
  }

  #row(id) {
    const created = new Date(START + Number(id.slice(1))).toISOString().replace("Z", "123Z");
    return { task_id: id, status: this.open.has(id) ? "running" : "success", created_at: created };
  }

  async settle(id, seconds) {
    this.asked += 1;
    if (seconds > 0) {
      this.open.clear(); // who waits for one finds all at their end
    }
    return this.#row(id);
  }

  async *tasks({ status, created_after, created_before }) {
    const rows = this.ids.map((id) => this.#row(id)).reverse();
    const found = rows.filter((row) => row.created_at >= created_after && row.created_at < created_before);
    const wanted = found.filter((row) => !status || status.includes(row.status));
    for (let start = 0; start === 0 || start < wanted.length; start += PAGE) {
      this.pages += 1;
      yield* wanted.slice(start, start + PAGE);
    }
  }
}

for (const count of [300, 1200]) {
  test(`${count} tasks that have ended cost a request for each hundred`, async () => {
    const cluster = new Cluster(count);
    const told = [];
    const ended = await waitAll(cluster, cluster.ids, { onProgress: (task, done) => told.push(done) });
    assert.deepEqual(ended.map((task) => task.task_id), cluster.ids);
    assert.deepEqual(told, cluster.ids.map((_, n) => n + 1));
    assert.ok(cluster.pages <= count / PAGE + 1, `${cluster.pages} pages`);
    assert.equal(cluster.asked, 2);
  });
}

test("while many are open a page tells so, and how they ended is read once", async () => {
  const everything = Array.from({ length: 1200 }, (_, n) => n);
  const cluster = new Cluster(1200, everything);
  const ended = await waitAll(cluster, cluster.ids);
  assert.ok(ended.every((task) => task.status === "success"));
  assert.ok(cluster.pages <= 1 + 1 + 12, `${cluster.pages} pages`);
});

test("tasks of others, open or not, hide none", async () => {
  const cluster = new Cluster(600, Array.from({ length: 400 }, (_, n) => n + 100));
  const ours = [...cluster.ids.slice(0, 50), ...cluster.ids.slice(-50)];
  const ended = await waitAll(cluster, ours);
  assert.deepEqual(ended.map((task) => task.task_id), ours);
});

test("a time that is up names what is open", async () => {
  const cluster = new Cluster(300, [7]);
  const { settle } = cluster;
  cluster.settle = (id) => settle.call(cluster, id, 0); // it does not end
  await assert.rejects(waitAll(cluster, cluster.ids, { timeoutMs: 100 }), (error) => {
    assert.ok(error instanceof DeadlinePassed);
    assert.deepEqual(error.open, [cluster.ids[7]]);
    return true;
  });
});

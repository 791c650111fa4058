/** The server the tests run against, as the environment names it. Without one they fail. */

import { Client } from "../src/index.js";

function variable(name) {
  const value = process.env[name];
  if (!value) {
    throw new Error(`${name} is not set: these tests run against a server, see README.md`);
  }
  return value;
}

export const url = variable("RETIRE_CLUSTER_TEST_URL"); // http://HOST:PORT
export const key = variable("RETIRE_CLUSTER_TEST_KEY"); // of an administrator

export function client(options = {}) {
  return new Client(options.url ?? url, { apiKey: key, ...options });
}

/** The first true value of a condition. Fails with what was waited for. */
export async function until(condition, what, ms = 30_000) {
  const deadline = performance.now() + ms;
  while (performance.now() < deadline) {
    const found = await condition();
    if (found) {
      return found;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`waited ${ms} ms in vain for ${what}`);
}

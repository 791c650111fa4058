/** Client of a Retire-Cluster: its REST API and its events. README.md shows how to use it. */

export { Client, RetireClusterAPI } from "./client.js";
export * from "./errors.js";

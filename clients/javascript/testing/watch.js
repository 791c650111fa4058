/** Prints every frame of the cluster's events as a line of JSON, until the process ends. */

import { client } from "./cluster.js";

for await (const frame of client().events()) {
  console.log(JSON.stringify(frame));
}

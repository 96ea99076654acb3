// Follows one query with brook.js, and prints what it is told, a line of JSON each.
// Ends when its standard input does, so that it never outlives the test.
// Usage: node follow.mjs URL KIND STREAM [QUERY_OPTIONS [BROOK_OPTIONS]]

import { Brook } from "../../static/brook.js";

const [, , url, kind, stream, wanted = "{}", options = "{}"] = process.argv;
const say = (line) => console.log(JSON.stringify(line));

const brook = new Brook(url, JSON.parse(options));
const query = brook[kind](stream, JSON.parse(wanted));
query.addEventListener("statechange", () => say({ state: query.state, code: query.error?.code }));
query.subscribe((...news) => say({ told: news }));

process.stdin.setEncoding("utf-8");
process.stdin.on("data", async (line) => {
  await brook.reached(line.trim());
  say({ reached: line.trim(), documents: query.documents });
});
process.stdin.on("end", () => process.exit(0));

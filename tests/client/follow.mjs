// Follows one query with brook.js, and prints what it is told, a line of JSON each.
// Ends when its standard input does, so that it never outlives the test.
// Usage: node follow.mjs URL KIND STREAM [QUERY_OPTIONS [BROOK_OPTIONS [LOGIN]]]
// LOGIN is { secret, tokens: [{ claims, seconds }, ...] }: the tokens that are given when asked, the last for ever.

import { createHmac } from "node:crypto";
import { Brook } from "../../static/brook.js";

const [, , url, kind, stream, wanted = "{}", options = "{}", login = "null"] = process.argv;
const say = (line) => console.log(JSON.stringify(line));

const { secret, tokens } = JSON.parse(login) ?? {};
let asked = 0;

function token() {
  const { claims, seconds, key = secret } = tokens[Math.min(asked, tokens.length - 1)];
  asked += 1;
  say({ asked });
  const content = { ...claims, exp: Date.now() / 1_000 + seconds };
  const parts = [{ alg: "HS256", typ: "JWT" }, content].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"));
  return [...parts, createHmac("sha256", key).update(parts.join(".")).digest("base64url")].join(".");
}

const brook = new Brook(url, { ...JSON.parse(options), ...(tokens && { token }) });
const query = brook[kind](stream, JSON.parse(wanted));
query.addEventListener("statechange", () => say({ state: query.state, code: query.error?.code }));
query.subscribe((...news) => say({ told: news }));

process.stdin.setEncoding("utf-8");
process.stdin.on("data", async (line) => {
  await brook.reached(line.trim());
  say({ reached: line.trim(), documents: query.documents });
});
process.stdin.on("end", () => process.exit(0));

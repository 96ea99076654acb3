// The declarations: whatever they name exists, and whatever a module exports is declared.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as core from "../../static/brook.js";
import * as stream from "../../static/brook-stream.js";

const declarations = (name) => readFileSync(new URL(`../../static/${name}.d.ts`, import.meta.url), "utf-8");

/** The members that a class or an interface declares itself. */
function members(text, name) {
  const [, body] = new RegExp(`(?:class|interface) ${name}\\b[^{]*\\{\\n(.*?)^\\}`, "ms").exec(text);
  const names = [...body.matchAll(/^  (?:readonly )?(\w+)\??(?=[(:<])/gm)].map((match) => match[1]);
  return names.filter((member) => member !== "constructor");
}

test("what is exported is declared, and the other way round", () => {
  const declared = (text) => [...text.matchAll(/^export (?:class (\w+)|\{ (\w+) \};)/gm)].map((match) => match[1] ?? match[2]).sort();
  assert.deepEqual(declared(declarations("brook")), Object.keys(core).sort());
  const inner = ["LONGEST_BLOCK", "report", "timeOf", "tooLarge"];
  assert.deepEqual(declared(declarations("brook-stream")), Object.keys(stream).filter((name) => !inner.includes(name)).sort());
});

test("every declared member is there", () => {
  const brook = new core.Brook("http://127.0.0.1:1/");
  const instances = {
    Brook: brook,
    Query: brook.live("creatures"),
    Live: brook.live("creatures"),
    Count: brook.count("creatures"),
    Changes: brook.changes("creatures"),
  };
  let count = 0;
  const check = (text, name, instance) => {
    for (const member of members(text, name)) {
      assert.ok(member in instance, `${name}.${member}`);
      count += 1;
    }
  };
  for (const [name, instance] of Object.entries(instances)) check(declarations("brook"), name, instance);
  const opened = new stream.EventStream("http://127.0.0.1:1/");
  check(declarations("brook-stream"), "EventStream", opened);
  check(declarations("brook-stream"), "EventParser", new stream.EventParser(() => {}));
  opened.close();
  brook.close();
  assert.ok(count > 20, `${count}`);
});

test("the codes of the client's own problems are documented", () => {
  const code = ["brook", "brook-stream"].map((name) => readFileSync(new URL(`../../static/${name}.js`, import.meta.url), "utf-8")).join();
  const own = new Set([...code.matchAll(/new Problem\(\s*"([\w-]+)"/g)].map((match) => match[1]));
  assert.ok(own.size > 7);
  for (const name of own) assert.ok(declarations("brook-stream").includes(`"${name}"`), name);
});

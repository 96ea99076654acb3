// The parser: the cases of the HTML standard, and npm's eventsource-parser as an oracle.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createParser } from "eventsource-parser";
import { generator } from "../support/listening.mjs";
import { EventParser } from "../../static/brook-stream.js";

/** What our parser says: the id of each block that has one, events, and retries, in their order. */
function ours(pieces) {
  const heard = [];
  const parser = new EventParser(
    ({ type, data, id }) => {
      if (id !== undefined) heard.push(["id", id]);
      if (data !== undefined) heard.push(["event", type, data]);
    },
    (ms) => heard.push(["retry", ms]),
  );
  for (const piece of pieces) parser.feed(piece);
  return heard;
}

function oracle(pieces) {
  const heard = [];
  const parser = createParser({
    onEvent: ({ event, data }) => heard.push(["event", event || "message", data]),
    onId: (id) => heard.push(["id", id]),
    onRetry: (ms) => heard.push(["retry", ms]),
  });
  const decoder = new TextDecoder();
  for (const piece of pieces) parser.feed(decoder.decode(piece, { stream: true }));
  return heard;
}

const bytes = (text) => new TextEncoder().encode(text);
const whole = (text) => [bytes(text)];
const byByte = (text) => Array.from(bytes(text), (byte) => Uint8Array.of(byte));

// Text, and what is heard: the examples of the standard's section 9.2.6, and its rules one by one.
const CASES = {
  "an event of several lines": ["data: YHOO\ndata: +2\ndata: 10\n\n", [["event", "message", "YHOO\n+2\n10"]]],
  "a comment, an id, an id that is cleared, a third without an end": [
    ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\ndata: lost",
    [
      ["id", "1"],
      ["event", "message", "first event"],
      ["id", ""],
      ["event", "message", "second event"],
      ["event", "message", " third event"],
    ],
  ],
  "data without a value": [
    "data\n\ndata\ndata\n\ndata:",
    [["event", "message", ""], ["event", "message", "\n"]],
  ],
  "one space after the colon goes": [
    "data:test\n\ndata: test\n\n",
    [["event", "message", "test"], ["event", "message", "test"]],
  ],
  "a named event": ["event: delete\ndata: {}\n\ndata: x\n\n", [["event", "delete", "{}"], ["event", "message", "x"]]],
  "a name without data is forgotten": ["event: delete\n\ndata: x\n\n", [["event", "message", "x"]]],
  "a checkpoint": ["id: t5.1\n\n", [["id", "t5.1"]]],
  "a position that is cleared": ["id\n\n", [["id", ""]]],
  "an id with a NUL is ignored": ["id: a\0b\ndata: x\n\n", [["event", "message", "x"]]],
  "a retry": ["retry: 3000\n\n", [["retry", 3000]]],
  "a retry that is no number": ["retry: 3s\nretry: -1\nretry:\n\n", []],
  "a field that nobody knows": ["dat: x\n data: y\ndata : z\n\n", []],
  "each kind of line end": [
    "data: a\r\n\r\ndata: b\r\rdata: c\n\ndata: d\r\n\n",
    ["a", "b", "c", "d"].map((data) => ["event", "message", data]),
  ],
  "a byte order mark": ["\ufeffdata: x\n\n", [["event", "message", "x"]]],
  "a second byte order mark is a letter": ["\ufeff\ufeffdata: x\n\n", []],
  "letters of several bytes": ["data: Flußkrebs 🦞\u2028\n\n", [["event", "message", "Flußkrebs 🦞\u2028"]]],
  "an end in the middle of a block": ["data: x\nid: 1\n", []],
};

for (const [name, [text, expected]] of Object.entries(CASES)) {
  test(`${name} is read, whole and byte by byte`, () => {
    assert.deepEqual(ours(whole(text)), expected);
    assert.deepEqual(ours(byByte(text)), expected);
  });
}

// Version 4.1 is the first that tells of a block with an id alone.
test("it hears what eventsource-parser hears, in random texts with random cuts", () => {
  const random = generator(20261127);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const parts = ["data", "id", "event", "retry", ":", ": ", " ", "x", "7", "🦞", "ß", "\n", "\r", "\r\n", "\n\n", "data: {}\n", "id: t1.2\n\n"];
  let events = 0;
  for (let round = 0; round < 3_000; round += 1) {
    const text = Array.from({ length: 1 + Math.floor(random() * 40) }, () => pick(parts)).join("");
    const all = bytes(`${text}\n\n`);
    const pieces = [];
    for (let at = 0; at < all.length; ) {
      const length = 1 + Math.floor(random() * 6);
      pieces.push(all.slice(at, at + length));
      at += length;
    }
    const heard = ours(pieces);
    assert.deepEqual(heard, oracle([all]), JSON.stringify(text));
    events += heard.length;
  }
  assert.ok(events > 3_000, "there was hardly anything to hear");
});

test("an event in many pieces costs no more than its length", () => {
  const piece = bytes("0123456789".repeat(100));
  const pieces = [bytes("data: "), ...Array.from({ length: 20_000 }, () => piece), bytes("\n\n")];
  const begin = performance.now();
  const [[, , data]] = ours(pieces);
  assert.equal(data.length, 20_000_000);
  assert.ok(performance.now() - begin < 5_000);
});

test("a block without an end is given up, not held", () => {
  const piece = bytes("x".repeat(2 ** 24));
  assert.throws(() => ours([bytes("data: "), ...Array.from({ length: 9 }, () => piece)]), { code: "too-large" });
});

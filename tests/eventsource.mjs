// Reads a stream with npm's `eventsource`, and prints every event as a line of JSON.
// Ends when its standard input does, so that it never outlives the test.
// Usage: node eventsource.mjs URL

import { EventSource } from 'eventsource';

const source = new EventSource(process.argv[2]);

for (const name of ['message', 'delete', 'reset', 'bye', 'problem']) {
  source.addEventListener(name, (event) => {
    console.log(JSON.stringify([event.type, event.data, event.lastEventId]));
  });
}

source.addEventListener('error', () => {
  if (source.readyState === EventSource.CLOSED) {
    console.error('the stream was closed for good');
    process.exit(1);
  }
});

process.stdin.on('end', () => process.exit(0)).resume();

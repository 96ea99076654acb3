// Reads a stream with npm's `eventsource`, and prints every event as a line of JSON.
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

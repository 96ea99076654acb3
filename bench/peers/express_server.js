// The usual server in Express: an EventEmitter, and a listener for each client that renders the frame
// and writes it. Better than most: it logs nothing and removes its listeners.

const { EventEmitter } = require('node:events')
const express = require('express')
const { MongoClient } = require('mongodb')

const broker = new EventEmitter()
broker.setMaxListeners(0)

const app = express()

app.get('/stream', (request, response) => {
  response.writeHead(200, {
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-cache',
    'Connection': 'keep-alive',
    'Access-Control-Allow-Origin': '*',
  })
  response.flushHeaders()
  const send = (document) => response.write(`data: ${JSON.stringify(document)}\n\n`)
  broker.on('event', send)
  request.on('close', () => broker.off('event', send))
})

async function main() {
  const client = await MongoClient.connect(process.env.MONGO_URI)
  const changes = client.db(process.env.DATABASE).collection(process.env.COLLECTION)
    .watch([], { fullDocument: 'updateLookup' })
  changes.on('change', (change) => broker.emit('event', change.fullDocument))
  app.listen(Number(process.env.PORT), '127.0.0.1', 4096)
}

main()

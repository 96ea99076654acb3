// The server that this project replaces: Express, an EventEmitter, and a listener for each client.
// Kinder to it than the original: a frame is made once for all, and listeners are taken off again.

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
  const send = (frame) => response.write(frame)
  broker.on('event', send)
  request.on('close', () => broker.off('event', send))
})

async function main() {
  const client = await MongoClient.connect(process.env.MONGO_URI)
  const changes = client.db(process.env.DATABASE).collection(process.env.COLLECTION)
    .watch([], { fullDocument: 'updateLookup' })
  changes.on('change', (change) => {
    broker.emit('event', `id: ${change._id._data}\ndata: ${JSON.stringify(change.fullDocument)}\n\n`)
  })
  app.listen(Number(process.env.PORT), '127.0.0.1', 4096)
}

main()

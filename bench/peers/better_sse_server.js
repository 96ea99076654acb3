// better-sse, with a channel as in its guide: a session for each client, a broadcast for each change.

const { createChannel, createSession } = require('better-sse')
const express = require('express')
const { MongoClient } = require('mongodb')

const channel = createChannel()
const app = express()

app.get('/stream', async (request, response) => {
  channel.register(await createSession(request, response, { keepAlive: 15000 }))
})

async function main() {
  const client = await MongoClient.connect(process.env.MONGO_URI)
  const changes = client.db(process.env.DATABASE).collection(process.env.COLLECTION)
    .watch([], { fullDocument: 'updateLookup' })
  changes.on('change', (change) => {
    channel.broadcast(change.fullDocument, 'message', { eventId: change._id._data })
  })
  app.listen(Number(process.env.PORT), '127.0.0.1', 4096)
}

main()

/**
 * Baseline of forwarding: what grpc-js itself does between two processes with one bidirectional stream and nothing behind it.
 * Messages are bytes as they are, without protocol buffers; the answer is the question.
 */
import * as grpc from '@grpc/grpc-js'
import { rateInFlight } from '../workload.ts'
import { serveParent } from '../child-program.ts'

const MESSAGE_BYTES = 120
const identity = (bytes: Buffer): Buffer => bytes
const service = {
  echo: {
    path: '/bench.Echo/Echo',
    requestStream: true,
    responseStream: true,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  },
} as const satisfies grpc.ServiceDefinition

let server: grpc.Server | undefined
let client: grpc.Client | undefined

function listen(): Promise<number> {
  const listening = new grpc.Server()
  server = listening
  listening.addService(service, {
    echo(call: grpc.ServerDuplexStream<Buffer, Buffer>) {
      call.on('data', (bytes: Buffer) => call.write(bytes))
      call.on('end', () => call.end())
    },
  })
  return new Promise((resolve, reject) => {
    listening.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    )
  })
}

async function callEcho({
  port,
  callers,
  sliceMs,
}: {
  port: number
  callers: number
  sliceMs: number
}): Promise<number> {
  const Echo = grpc.makeGenericClientConstructor(service, 'Echo')
  client ??= new Echo(`127.0.0.1:${port}`, grpc.credentials.createInsecure())
  const stream = client.makeBidiStreamRequest(service.echo.path, identity, identity, new grpc.Metadata())
  const pending = new Map<number, () => void>()
  let nextId = 0
  stream.on('data', (bytes: Buffer) => {
    const id = bytes.readUInt32LE(0)
    pending.get(id)?.()
    pending.delete(id)
  })
  const rate = await rateInFlight(callers, sliceMs, () => {
    const id = nextId++
    const message = Buffer.alloc(MESSAGE_BYTES)
    message.writeUInt32LE(id, 0)
    return new Promise<void>((resolve) => {
      pending.set(id, resolve)
      stream.write(message)
    })
  })
  stream.end()
  return rate
}

serveParent({ listen, callEcho }, () => {
  client?.close()
  server?.forceShutdown()
})

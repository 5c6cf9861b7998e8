// A clamd with the INSTREAM command that detects one virus, the EICAR test file.

import { once } from 'node:events'
import { createServer } from 'node:net'

// In two parts, so that scanners do not detect this source file.
export const EICAR = ['X5O!P%@AP[4\\PZX54(P^)7CC)7}$', 'EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*'].join('')

const COMMAND = Buffer.from('zINSTREAM\0')

/** Returns the stream in an INSTREAM command, or null while it is incomplete. */
function streamOf(received) {
  const pieces = []
  let at = COMMAND.length
  for (;;) {
    if (received.length < at + 4) return null
    const length = received.readUInt32BE(at)
    if (length === 0) return Buffer.concat(pieces)
    if (received.length < at + 4 + length) return null
    pieces.push(received.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
}

/**
 * Listens on a UNIX socket until test `t` ends. `scanned` counts the bytes of each stream; a stream
 * above `limit` bytes gets clamd's response to one above its StreamMaxLength.
 */
export async function startClamd(t, path, { limit = 1024 * 1024 } = {}) {
  const scanned = []
  const sockets = new Set()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
    let received = Buffer.alloc(0)
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
      if (!COMMAND.subarray(0, received.length).equals(received.subarray(0, COMMAND.length))) {
        socket.end('UNKNOWN COMMAND\0')
        return
      }
      const stream = streamOf(received)
      if (received.length > limit) {
        socket.end('INSTREAM size limit exceeded. ERROR\0')
      } else if (stream) {
        scanned.push(stream.length)
        const found = stream.includes(EICAR)
        socket.end(`stream: ${found ? 'Win.Test.EICAR_HDB-1 FOUND' : 'OK'}\0`)
      }
    })
  })
  server.listen(path)
  await once(server, 'listening')
  const close = async () => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    for (const socket of sockets) socket.destroy()
    await closed
  }
  t.after(close)
  return { scanned, close }
}

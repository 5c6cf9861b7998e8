// @tus/server with the S3 store, part size and all else at its default. Arguments: port, bucket,
// endpoint; region and keys come from the usual variables.
import { Server } from '@tus/server'
import { S3Store } from '@tus/s3-store'

const [port, bucket, endpoint] = process.argv.slice(2)
const datastore = new S3Store({
  s3ClientConfig: { bucket, endpoint, region: process.env.AWS_REGION, forcePathStyle: true },
})
const server = new Server({ path: '/files', datastore })
server.listen({ host: '127.0.0.1', port: Number(port) })

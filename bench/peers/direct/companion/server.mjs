// @uppy/companion in an application of its own, as its documentation embeds it, and no more than its S3
// routes need: no sessions, no log of requests, no metrics. Arguments: port, folder, bucket, endpoint;
// region and keys come from the usual variables.
import * as companion from '@uppy/companion'
import express from 'express'

const [port, filePath, bucket, endpoint] = process.argv.slice(2)
const { AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = process.env

const { app } = companion.app({
  s3: {
    bucket,
    endpoint,
    region: AWS_REGION,
    key: AWS_ACCESS_KEY_ID,
    secret: AWS_SECRET_ACCESS_KEY,
    forcePathStyle: true,
  },
  server: { host: `127.0.0.1:${port}`, protocol: 'http' },
  filePath,
  secret: 'measured',
  uploadUrls: [endpoint],
  corsOrigins: true,
  metrics: false,
})
express().use(app).listen({ host: '127.0.0.1', port: Number(port) })

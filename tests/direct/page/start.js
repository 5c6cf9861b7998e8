// What the pages of all majors of Uppy have in common. They differ in how @uppy/aws-s3 is told of the server.
//
// `?settings=` holds JSON:
//   server     where landfall is
//   token      an API key, or an upload token
//   mode       how Uppy comes to signed requests; each page says which it knows
//   multipart  files above so many bytes go in parts
//   tellSize   the server is told the size of files

export const settings = JSON.parse(new URLSearchParams(location.search).get('settings'))

/** For tests: what Uppy said, in order. */
window.said = []

/** A Dashboard that remembers its files over a reload, and sends them straight to S3. */
export function start({ Uppy, Dashboard, GoldenRetriever, AwsS3 }, connection) {
  const uppy = new Uppy({ id: 'direct', debug: true })
    .use(Dashboard, { target: '#dashboard', inline: true, width: '100%', height: 420 })
    // Larger files than 10 MiB are not kept unless it is told so.
    .use(GoldenRetriever, { indexedDB: { maxFileSize: 2 ** 28, maxTotalSize: 2 ** 29 } })
    .use(AwsS3, {
      shouldUseMultipart: (file) => file.size > settings.multipart,
      ...connection,
    })
  uppy.on('upload-success', (file, { uploadURL, body }) => {
    window.said.push({ event: 'success', name: file.name, uploadURL, key: body.key })
  })
  uppy.on('upload-error', (file, error) => {
    window.said.push({ event: 'error', name: file.name, message: error.message })
  })
  uppy.on('s3-multipart:part-uploaded', (file, { PartNumber }) => {
    window.said.push({ event: 'part', name: file.name, number: PartNumber })
  })
  // Uppy tells servers no sizes by itself.
  if (settings.tellSize) uppy.on('file-added', ({ id, size }) => uppy.setFileMeta(id, { size }))
}

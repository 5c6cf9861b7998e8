// Uses a container of Azure without landfall: Azurite, with a signature that its public key made for everything.

const SIGNATURE =
  'sv=2020-12-06&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&' +
  'sig=N5uz2Xeys0I28PmqjyjbsCHaHaD7oWInzBEyCFTa6O8%3D'
const ACCOUNT = 'devstoreaccount1'

async function call({ endpoint, container }, method, name, query = '', { body, headers = {} } = {}) {
  const path = [ACCOUNT, container, ...(name === undefined ? [] : name.split('/').map(encodeURIComponent))].join('/')
  const response = await fetch(`${endpoint}/${path}?${query}${query && '&'}${SIGNATURE}`, {
    method,
    headers: { 'x-ms-version': '2021-12-02', ...headers },
    body,
  })
  if (response.ok) return response
  const error = new Error(`${method} ${path}?${query}: ${response.status} ${await response.text()}`)
  throw Object.assign(error, { status: response.status })
}

/** Makes the container. */
export async function createContainer(place) {
  await call(place, 'PUT', undefined, 'restype=container')
}

const text = (xml, element) => xml.match(new RegExp(`<${element}>([^<]*)</${element}>`))?.[1] ?? ''

/** The names of all blobs and their sizes; 0 of a blob that has nothing but uncommitted blocks. */
export async function blobs(place) {
  const found = new Map()
  for (let next = ''; ; ) {
    const query = `restype=container&comp=list&include=uncommittedblobs&marker=${encodeURIComponent(next)}`
    const xml = await (await call(place, 'GET', undefined, query)).text()
    for (const [blob] of xml.matchAll(/<Blob>.*?<\/Blob>/gs)) {
      found.set(text(blob, 'Name'), Number(text(blob, 'Content-Length')))
    }
    next = text(xml, 'NextMarker')
    if (!next) return found
  }
}

/** The bytes of a blob. */
export async function blob(place, name) {
  return Buffer.from(await (await call(place, 'GET', name)).arrayBuffer())
}

/** Writes a blob. */
export async function put(place, name, data) {
  const headers = { 'x-ms-blob-type': 'BlockBlob' }
  await call(place, 'PUT', name, '', { body: data, headers })
}

/** Stages a block. */
export async function putBlock(place, name, data) {
  await call(place, 'PUT', name, 'comp=block&blockid=AAAAAA%3D%3D', { body: data })
}

/** How many blocks of a blob are uncommitted. */
export async function uncommitted(place, name) {
  const xml = await (await call(place, 'GET', name, 'comp=blocklist&blocklisttype=uncommitted')).text()
  return xml.split('<Block>').length - 1
}

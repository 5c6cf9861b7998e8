// Uppy 6: three modes, none of which can send a header to the server by itself.

import Uppy from '@uppy/core'
import Dashboard from '@uppy/dashboard'
import GoldenRetriever from '@uppy/golden-retriever'
import AwsS3 from '@uppy/aws-s3'
import '@uppy/core/css/style.min.css'
import '@uppy/dashboard/css/style.min.css'
import { settings, start } from '../../page/start.js'

const { server, token, mode, s3Endpoint } = settings
const authorization = { Authorization: `Bearer ${token}` }

/** Has the server sign one request of Uppy's. */
async function signRequest(request) {
  const response = await fetch(`${server}/s3/presign`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...authorization },
    body: JSON.stringify(request),
  })
  const answer = await response.json()
  if (!response.ok) throw new Error(answer.message)
  return answer
}

async function getCredentials() {
  const response = await fetch(`${server}/s3/sts`, { headers: authorization })
  const answer = await response.json()
  if (!response.ok) throw new Error(answer.message)
  return answer
}

/** The key of a file where the credentials let it go. */
const ownKey = ({ prefix }) => (file) => `${prefix}${crypto.randomUUID()}-${file.name}`

const connections = {
  // What can send no header has the token in its path.
  companion: { companionEndpoint: `${server}/t/${token}` },
  signer: { signRequest },
  // It signs for itself, with credentials that it asks for.
  sts: { s3Endpoint, getCredentials },
}
const more = mode === 'sts' ? { generateObjectKey: ownKey(await getCredentials()) } : {}
start({ Uppy, Dashboard, GoldenRetriever, AwsS3 }, { ...connections[mode], ...more })

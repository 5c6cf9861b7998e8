// Uppy 4: what Companion is asked goes to `endpoint`, with headers of one's own.

import Uppy from '@uppy/core'
import Dashboard from '@uppy/dashboard'
import GoldenRetriever from '@uppy/golden-retriever'
import AwsS3 from '@uppy/aws-s3'
import '@uppy/core/dist/style.min.css'
import '@uppy/dashboard/dist/style.min.css'
import { settings, start } from '../../page/start.js'

const { server, token, mode } = settings
const connections = {
  companion: { endpoint: server, headers: { Authorization: `Bearer ${token}` } },
  // It signs for itself, with credentials that it asks for.
  sts: { endpoint: server, headers: { Authorization: `Bearer ${token}` }, getTemporarySecurityCredentials: true },
}
start({ Uppy, Dashboard, GoldenRetriever, AwsS3 }, connections[mode])

// The sentences of the documentation that say that something is not supported, or cannot be done, and what proves each.

/** The program refuses these arguments, with this message. */
const refused = (args, pattern) => ({ args, pattern })
/** This file, mostly a test, has the text. */
const source = (file, text) => ({ file, text })
/** No claim about what Landfall can do, for one of these reasons. */
const FAILURE = { reason: 'what happens after a failure' }
const OTHERS = { reason: 'about another program or service' }
const ADVICE = { reason: 'about what the reader sets up' }
const ELSEWHERE = { reason: 'another test compares it with the program' }

export const SAYS = /\b(not supported|unsupported|cannot|no support|(does|do) not support)\b/i

/** By page: the beginning of a sentence, or a part of it, and its proof. */
export const CLAIMS = {
  'docs/authorize.md': [['If nginx, Caddy or an API gateway', ADVICE]],
  'docs/azure.md': [
    ['A shared access signature cannot sign others', source('crates/azure/src/presign.rs', 'a shared access signature cannot sign URLs')],
    ['files cannot be downloaded', refused(
      ['--azure-storage', 'a', '--azure-blob-access-tier', 'archive'], /finished files cannot be downloaded/)],
    ['uploads cannot be stored', OTHERS],
  ],
  'docs/benchmarks.md': [['Ratios within a run', ADVICE], ['plain PUTs, which cannot be resumed', OTHERS]],
  'docs/configuration.md': [
    ['do not start with a setting that cannot work', ELSEWHERE],
    ['An unsupported flag of tusd', ELSEWHERE],
    ['A file that cannot be read', FAILURE],
    ['Unsupported flags', ELSEWHERE],
    ['Go plugins are not supported', refused(['--hooks-plugin', 'a'], /Go plugins are not supported/)],
  ],
  'docs/conformance.md': [['The exit code is 0', FAILURE]],
  'docs/direct.md': [
    ['Clients that cannot send headers', OTHERS],
    ['which Uppy 6 does not support', OTHERS],
    ['Landfall cannot see the bytes', OTHERS],
    ['A completed object cannot be replaced', source('crates/direct/tests/it/api/clouds.rs', 'assert_eq!(put(&signed, "other").await, 412)')],
  ],
  'docs/gcs.md': [
    ['The login of a user and emulators cannot sign', source('crates/gcs/src/credentials.rs', 'these credentials cannot sign')],
    ['parts cannot be deleted', OTHERS],
    ['the sweeper cannot work', FAILURE],
  ],
  'docs/hooks.md': [['a server cannot clear metadata', source('crates/hooks/src/grpc/translate.rs', 'An empty map is not encoded')]],
  'docs/migrating-from-tusd.md': [
    ['Unsupported flags are reported', ELSEWHERE],
    ['It does not support two states', OTHERS],
    ['Not supported', ELSEWHERE],
    ["the protocol's own headers cannot be replaced", source('crates/landfall/src/service/response.rs', '!RESERVED_HEADERS.contains')],
  ],
  'docs/monitoring.md': [
    ['uploads whose description cannot be read', FAILURE],
    ['the directory or bucket cannot be listed', FAILURE],
  ],
  'docs/operations.md': [
    ['While the database is unreachable', FAILURE],
    ['cannot be called', FAILURE],
    ['SOCKS is not supported', source('crates/net/src/proxies.rs', '(&[("ALL_PROXY", "socks5://p:1")], None, None)')],
    ['cannot be used', source('crates/s3/src/client/profile.rs', '("mfa", &["\\"mfa\\"", "/c/config", "mfa_serial"])')],
    ['a damaged one cannot be resumed', FAILURE],
  ],
  'docs/reverse-proxy.md': [['If it cannot send these headers', OTHERS]],
  'docs/s3.md': [
    ['An unfinished upload cannot be read', source('crates/objects/src/store/read.rs', 'fn reads_unfinished(&self) -> bool {\n        false')],
    ['parts are uploaded but cannot be completed', OTHERS],
    ['cannot concatenate partial uploads', OTHERS],
  ],
  'docs/scaling.md': [['Sentinel and cluster mode are not supported', refused(
    ['--s3-bucket', 'a', '--lease', 'redis-sentinel://a'], /unknown scheme redis-sentinel/)]],
  'docs/secure.md': [['so that it cannot be bypassed', ADVICE]],
  'docs/storage.md': [['A description that cannot be read', FAILURE]],
  'docs/support.md': [['not supported', source('crates/landfall/src/store/file/paths.rs', 'std::os::unix')]],
  'docs/tls.md': [['Files that cannot be used', FAILURE]],
  'docs/troubleshooting.md': [
    ['the server cannot answer now', FAILURE],
    ['its metrics cannot be scraped', FAILURE],
  ],
  'docs/upload-page.md': [['it cannot list, read or cancel uploads', source('crates/access/tests/it/grants/api/links.rs', 'a_link_uploads_within_its_limits_and_does_nothing_else')]],
  'docs/upload.md': [
    ['Another run cannot resume it', OTHERS],
    ['the server rejected a file', FAILURE],
    ['the server cannot be reached', FAILURE],
  ],
}

// Events as they happen; where they don't come through, the page asks again and again.

/** How long a lost stream is waited for before a new one is made, in milliseconds. */
const AGAIN = 10_000;

const TYPES = [
  'UploadStarted', 'UploadProgress', 'UploadCompleted', 'UploadCancelled', 'UploadFailed', 'UploadExpired',
];

/**
 * Listens for ever. `onEvent` gets each event, `onLink` whether there is a stream. After an event of the type `reset`
 * all that is shown may be wrong.
 * @param {(event: object) => void} onEvent
 * @param {(isThere: boolean) => void} onLink
 */
export function listen(onEvent, onLink) {
  let last = '';
  let source;
  const open = () => {
    // A new source knows nothing of the one before.
    source = new EventSource(`./api/events${last && `?last_event_id=${encodeURIComponent(last)}`}`);
    source.onopen = () => onLink(true);
    source.onerror = () => {
      onLink(false);
      // The browser tries again by itself, unless the answer was a refusal.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, AGAIN);
    };
    for (const type of [...TYPES, 'reset']) {
      source.addEventListener(type, ({ data, lastEventId }) => {
        last = lastEventId;
        onEvent(JSON.parse(data));
      });
    }
  };
  open();
  addEventListener('pagehide', () => source.close());
  addEventListener('pageshow', ({ persisted }) => {
    if (persisted) open();
  });
}

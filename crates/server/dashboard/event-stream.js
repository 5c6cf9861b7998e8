// The server-sent events of the API. Without them, the page polls.

/** Delay before a rejected stream is opened again, in milliseconds. */
const RETRY_DELAY = 10_000;

const TYPES = [
  'UploadStarted', 'UploadProgress', 'UploadCompleted', 'UploadCancelled', 'UploadFailed', 'UploadExpired',
];

/**
 * Subscribes to all events. An event of the type `reset` means that all uploads must be reloaded.
 * @param {(event: object) => void} onEvent
 * @param {(isConnected: boolean) => void} onConnection
 */
export function subscribe(onEvent, onConnection) {
  let lastEventId = '';
  let source;
  const open = () => {
    // A new source does not send the id of the old one's last event.
    source = new EventSource(`./api/events${lastEventId && `?last_event_id=${encodeURIComponent(lastEventId)}`}`);
    source.onopen = () => onConnection(true);
    source.onerror = () => {
      onConnection(false);
      // The browser reconnects, unless the stream was rejected.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, RETRY_DELAY);
    };
    for (const type of [...TYPES, 'reset']) {
      source.addEventListener(type, (message) => {
        lastEventId = message.lastEventId;
        onEvent(JSON.parse(message.data));
      });
    }
  };
  open();
  addEventListener('pagehide', () => source.close());
  addEventListener('pageshow', ({ persisted }) => {
    if (persisted) open();
  });
}

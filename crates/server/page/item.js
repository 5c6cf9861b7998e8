// One upload in the list, from the choice of its file until it is removed, also across reloads.

import { chooseFiles, fromHandle } from './files.js';
import { SpeedMeter } from './format.js';
import { text } from './i18n.js';
import { isOpen, isSameFile } from './store.js';
import { FileUpload, inspectUpload, removeUpload } from './upload.js';

/** States without activity, in which another tab may take over. */
const IDLE_STATES = new Set(['paused', 'failed', 'rejected', 'needs-file', 'needs-permission', 'done', 'removed']);

/** The last request for a lock has been answered. */
let granted = Promise.resolve();

/**
 * States, besides those of `FileUpload`: `restoring` (after a reload), `queued`, `in-other-tab` (another
 * tab is uploading it), `needs-file` (the user must choose the file again), `needs-permission` (the user
 * must press a button once), `rejected` (never started, and cannot be), `removing` and `removed`.
 */
export class Item {
  #context;
  #handle;
  #upload = null;
  #state = 'restoring';
  /** @type {import('./files.js').Source | null} */
  #offered = null;
  #message = '';
  #meter = new SpeedMeter();
  #release = null;
  #removeFromQueue = () => false;
  #timer = 0;
  /** Bytes on the server when it was restored. */
  #storedOffset = 0;

  /**
   * @param {import('./store.js').Record} record
   * @param {object} context shared by all items
   * @param {string} context.endpoint
   * @param {import('./store.js').Store} context.store
   * @param {import('./link.js').Link | null} context.link
   * @param {import('./queue.js').Queue} context.queue uploads
   * @param {import('./queue.js').Queue} context.restoreQueue restored uploads
   * @param {HTMLInputElement} context.input
   * @param {(item: Item, before: string) => void} context.onChange
   * @param {(item: Item, message: string) => void} context.onNotRemoved a cancelled upload stays on the server
   */
  constructor(record, context) {
    this.record = record;
    /** Whether it was finished before this visit. */
    this.isEarlier = record.state === 'finished';
    this.#context = context;
  }

  get state() {
    return this.#state;
  }

  /** The name of the file with its folders. */
  get label() {
    return this.record.path || this.record.name;
  }

  /** Whether it cannot reach the server, but keeps trying. */
  get isOffline() {
    return ['waiting', 'creating', 'checking'].includes(this.#state) && this.#upload.isOffline;
  }

  /** Returns the state for the view. */
  snapshot() {
    const upload = this.#upload;
    const { name, size, url, state } = this.record;
    const isFinished = state === 'finished';
    return {
      state: this.#state,
      name,
      label: this.label,
      size,
      sent: isFinished ? size : (upload?.sent ?? this.#storedOffset),
      restored: this.isEarlier ? size : this.#storedOffset,
      isFinished,
      isOffline: this.isOffline,
      rate: this.#state === 'uploading' ? this.#meter.rate : null,
      message: this.#message,
      retryAt: upload?.retryAt ?? 0,
      url,
    };
  }

  /** Measures the speed; called several times a second. */
  tick(now) {
    if (this.#state === 'uploading') this.#meter.sample(this.#upload.sent, now);
    else this.#meter.reset();
  }

  /** Rejects a file that cannot be uploaded; a later visit shows why, and does not request it again. */
  reject(message) {
    this.record.copied = false;
    this.#saveEnd('rejected', message);
    this.#set('rejected', message);
  }

  /** Sets the file, also when it is chosen again, and starts or resumes. */
  addFile({ file, handle }) {
    this.#handle = handle;
    this.#createUpload(file);
    this.#save();
    this.#storeSource({ file, handle });
    return this.start();
  }

  /** Takes a file that is chosen again while the upload is being restored, which continues with it. */
  offer(source) {
    this.#offered = source;
  }

  /** Restores an upload of an earlier visit, once no other tab works on it. */
  async restore() {
    if (this.record.state === 'rejected') {
      this.#set('rejected', this.record.reason);
      return;
    }
    if (isOpen(this.record)) await this.#acquireLock();
    await new Promise((resolve) => {
      this.#context.restoreQueue.add(() => this.#restoreLocked().catch(() => this.#set('rejected', text('error_restore'))).then(resolve));
    });
    if (IDLE_STATES.has(this.#state)) this.#releaseLock();
  }

  async #restoreLocked() {
    const { store } = this.#context;
    const latest = store.get(this.record.id);
    if (!latest) {
      this.#set('removed');
      return;
    }
    this.record = latest;
    // By another tab.
    if (latest.state === 'rejected') {
      if (!this.#offered) {
        this.#set('rejected', latest.reason);
        return;
      }
      latest.state = 'unfinished';
    }
    this.#set('restoring');
    // With a file that was chosen meanwhile, it begins anew.
    if (this.record.url !== null && !(await this.#existsOnServer()) && !this.#offered) {
      store.remove(this.record);
      store.forget(this.record);
      this.#set('removed');
      return;
    }
    if (this.record.state === 'finished') {
      this.#set('done');
      return;
    }
    const source = await store.source(this.record);
    this.#handle = source?.handle;
    const permission = (await source?.handle?.queryPermission?.({ mode: 'read' })) ?? 'granted';
    const file = permission === 'granted' ? await readSource(source) : null;
    if (this.#offered) {
      await this.addFile(this.#offered);
      return;
    }
    if (file && isSameFile(this.record, file)) this.#createUpload(file);
    const { state, reason = '' } = this.record;
    const message = state === 'failed' ? reason : '';
    if (this.#upload === null) this.#set(this.#handle && permission !== 'granted' ? 'needs-permission' : 'needs-file', message);
    else if (state === 'paused') this.#set('paused');
    else if (state === 'failed') this.#set('failed', message);
    // Without locks, another tab may be uploading it, so the user must decide.
    else if (!navigator.locks) this.#set('needs-permission');
    else await this.start();
  }

  /** Starts or resumes when no other tab works on the upload and the queue has capacity. */
  async start() {
    this.#set('queued');
    await this.#acquireLock();
    if (this.#state !== 'queued' && this.#state !== 'in-other-tab') {
      this.#releaseLock();
      return;
    }
    const latest = this.#context.store.get(this.record.id);
    if (!isOpen(latest)) {
      this.record = latest ?? this.record;
      this.#releaseLock();
      if (latest?.state === 'rejected') this.#set('rejected', latest.reason);
      else this.#set(latest ? 'done' : 'removed');
      return;
    }
    this.record = latest;
    if (latest.state !== 'unfinished') {
      latest.state = 'unfinished';
      this.#save();
    }
    this.#upload.url = this.record.url;
    this.#upload.resetRetries();
    this.#set('queued');
    this.#enqueue();
  }

  /** An upload that waits for its retry is not in the queue, so that others can run. */
  #enqueue(options) {
    this.#removeFromQueue = this.#context.queue.add(async () => {
      await this.#upload.run();
      if (this.#state === 'waiting') this.#timer = setTimeout(() => this.retryNow(), this.#upload.retryAt - Date.now());
      else if (IDLE_STATES.has(this.#state)) this.#releaseLock();
    }, options);
  }

  /** Leaves the queue and the wait for a retry. */
  #dequeue() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#removeFromQueue();
  }

  pause() {
    this.record.state = 'paused';
    this.#save();
    this.#dequeue();
    this.#upload.pause();
    this.#releaseLock();
  }

  /** @param {'disconnected' | 'offline'} reason see `FileUpload` */
  disconnect(reason) {
    this.#upload?.disconnect(reason);
  }

  /** Ends the wait for a retry. */
  retryNow() {
    if (this.#timer === 0) return;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#enqueue({ isUrgent: true });
  }

  /** Must be called from a click, so that the browser grants access to the file. Resolves to its success. */
  async resume() {
    if (this.#upload === null) {
      try {
        const permission = await this.#handle.requestPermission({ mode: 'read' });
        if (permission !== 'granted') return false;
        const { file } = await fromHandle(this.#handle);
        if (!isSameFile(this.record, file)) throw new Error('different file');
        this.#createUpload(file);
      } catch {
        this.#set('needs-file');
        return true;
      }
    }
    await this.start();
    return true;
  }

  /** Lets the user choose the file again. Resolves to false for a different file. */
  async chooseAgain() {
    const [source] = await chooseFiles(this.#context.input, false);
    if (!source) return true;
    if (!isSameFile(this.record, source.file)) return false;
    await this.addFile(source);
    return true;
  }

  /** Stops at once, terminates the upload on the server and removes it from the list. */
  async remove() {
    this.#dequeue();
    const before = this.#state;
    const upload = this.#upload;
    const isCreating = upload?.isCreating ?? false;
    const abandoned = upload?.abandon();
    if (isCreating) {
      // The request must not be aborted, nor may the user have to wait for its response.
      this.clear();
      await abandoned;
    } else if (this.record.url === null) {
      this.clear();
    } else {
      this.#set('removing');
    }
    const url = upload?.url ?? this.record.url;
    if (url === null) return;
    try {
      await removeUpload(url);
    } catch (error) {
      if (this.#state === 'removed') {
        this.#context.onNotRemoved(this, error.message);
        return;
      }
      // The user may also resume it.
      if (upload) this.#createUpload(upload.file);
      this.#releaseLock();
      this.#set(upload ? 'failed' : before, error.message);
      return;
    }
    if (this.#state !== 'removed') this.clear();
  }

  /** Removes the upload from the list, not from the server. */
  clear() {
    this.#context.store.remove(this.record);
    this.#releaseLock();
    this.#set('removed');
  }

  async #storeSource(source) {
    const copied = await this.#context.store.saveSource(this.record, source);
    if (!copied || this.record.state === 'finished' || ['rejected', 'removed'].includes(this.#state)) return;
    this.record.copied = true;
    this.#save();
  }

  #createUpload(file) {
    const { name, type, path } = this.record;
    const metadata = { filename: name };
    if (type) metadata.filetype = type;
    if (path) metadata.relativePath = path;
    const offset = this.#upload?.offset ?? this.#storedOffset;
    const { link } = this.#context;
    this.#upload = new FileUpload({
      endpoint: this.#context.endpoint,
      file,
      metadata,
      url: this.record.url,
      requestToken: link ? () => link.requestToken(this.record) : undefined,
      onChange: (upload) => this.#onUploadChange(upload),
    });
    this.#upload.offset = this.#upload.sent = offset;
  }

  #onUploadChange(upload) {
    if (upload !== this.#upload || this.#state === 'removed') return;
    if (upload.url !== this.record.url) {
      this.record.url = upload.url;
      this.#save();
    }
    if (this.#state === 'removing') return;
    if (upload.state === 'done' && this.#state !== 'done') {
      this.record.state = 'finished';
      this.record.copied = false;
      this.#save();
      this.#context.store.remember(this.record);
      this.#context.store.removeSource(this.record);
      this.#releaseLock();
    }
    if (upload.state === 'failed' && upload.isDenied) {
      this.#context.store.removeSource(this.record);
      this.#releaseLock();
      this.reject(upload.message);
    } else if (upload.state === 'failed' && upload.fileLost) this.#set('needs-file', upload.message);
    else {
      if (upload.state === 'failed') this.#saveEnd('failed', upload.message);
      this.#set(upload.state, upload.message);
    }
  }

  /** Reads the stored offset. Resolves to false only if the upload certainly no longer exists. */
  async #existsOnServer() {
    try {
      const offset = await inspectUpload(this.record.url);
      this.#storedOffset = offset ?? 0;
      return offset !== null;
    } catch {
      return true;
    }
  }

  /** Acquires the lock of this upload among tabs; waits while another tab holds it. */
  async #acquireLock() {
    if (!navigator.locks || this.#release) return;
    const name = `landfall ${this.record.id}`;
    const hold = (lock) => lock && new Promise((release) => { this.#release = release; });
    // One after another: browsers grant locks in any order, and files start in that of the list.
    granted = granted.then(() => new Promise((done) => {
      navigator.locks.request(name, { ifAvailable: true }, (lock) => { const wait = hold(lock); done(); return wait; }).catch(done);
    }));
    await granted;
    if (this.#release) return;
    this.#set('in-other-tab');
    await new Promise((done) => {
      navigator.locks.request(name, (lock) => { const wait = hold(lock); done(); return wait; });
    });
  }

  #releaseLock() {
    this.#release?.();
    this.#release = null;
  }

  #save() {
    this.#context.store.save(this.record);
  }

  #saveEnd(state, reason) {
    Object.assign(this.record, { state, reason });
    this.#save();
  }

  #set(state, message = '') {
    const before = this.#state;
    this.#state = state;
    this.#message = message;
    this.#context.onChange(this, before);
  }
}

async function readSource(source) {
  try {
    const file = source?.file ?? (await source?.handle?.getFile()) ?? null;
    // The browser may have evicted the stored copy.
    if (file && file.size > 0) await file.slice(0, 1).arrayBuffer();
    return file;
  } catch {
    return null;
  }
}

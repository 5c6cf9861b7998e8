// One line of the list: an upload from the moment its file is chosen, over reloads, to its end.

import { chooseFiles, fromHandle } from './files.js';
import { SpeedMeter } from './format.js';
import { Disconnected, Refused } from './request.js';
import { isSameFile } from './store.js';
import { TusUpload, inspectUpload, isGone, removeUpload } from './tus.js';

/** Nothing happens in these by itself, so another tab may take over. */
const RESTING = new Set(['paused', 'failed', 'needs-file', 'needs-leave', 'done', 'removed']);

/**
 * States, beyond those of `TusUpload`: `finding` (what a reload left), `queued`, `elsewhere` (another
 * tab is at it), `needs-file` (the person must show us the file again), `needs-leave` (the person
 * must press a button once), `refused` (never begun).
 */
export class Item {
  #context;
  #handle;
  #upload = null;
  #state = 'finding';
  #message = '';
  #meter = new SpeedMeter();
  #release = null;
  #leaveQueue = () => false;
  #known = 0;

  /**
   * @param {import('./store.js').Record} record
   * @param {object} context what all items share
   * @param {string} context.endpoint
   * @param {import('./store.js').Store} context.store
   * @param {import('./queue.js').Queue} context.queue
   * @param {HTMLInputElement} context.input
   * @param {(item: Item, before: string) => void} context.onChange
   */
  constructor(record, context) {
    this.record = record;
    this.#context = context;
  }

  get state() {
    return this.#state;
  }

  /** What the view shows. */
  snapshot() {
    const live = this.#upload;
    return {
      state: this.#state,
      name: this.record.name,
      size: this.record.size,
      sent: this.#state === 'done' ? this.record.size : (live?.sent ?? this.#known),
      rate: this.#state === 'uploading' ? this.#meter.rate : null,
      message: this.#message,
      retryAt: live?.retryAt ?? 0,
      url: this.record.url,
    };
  }

  /** Measures the speed; called a few times a second. */
  tick(now) {
    if (this.#state === 'uploading') this.#meter.sample(this.#upload.sent, now);
    else this.#meter.reset();
  }

  /** A file that can't be uploaded at all. */
  refuse(message) {
    this.#set('refused', message);
  }

  /** Takes a file, new or shown again, and goes on. */
  give({ file, handle }) {
    this.#handle = handle;
    this.#adopt(file);
    this.#save();
    this.#keep({ file, handle });
    return this.start();
  }

  /** Picks up what an earlier visit left, once no other tab is at it. */
  async restore() {
    if (this.record.state !== 'finished') await this.#takeLease();
    const latest = this.#context.store.get(this.record.id);
    if (latest) {
      this.record = latest;
      this.#set('finding');
      await this.#restoreAlone();
    } else {
      this.#set('removed');
    }
    if (RESTING.has(this.#state)) this.#dropLease();
  }

  async #restoreAlone() {
    const { store } = this.#context;
    if (this.record.url !== null && !(await this.#stillThere())) {
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
    const leave = (await source?.handle?.queryPermission?.({ mode: 'read' })) ?? 'granted';
    const file = leave === 'granted' ? await readSource(source) : null;
    if (file && isSameFile(this.record, file)) this.#adopt(file);
    if (this.#upload === null) this.#set(this.#handle && leave !== 'granted' ? 'needs-leave' : 'needs-file');
    else if (this.record.state === 'paused') this.#set('paused');
    // Without locks between tabs another one may be at it, so only a person may decide.
    else if (!navigator.locks) this.#set('needs-leave');
    else await this.start();
  }

  /** Goes on as soon as no other tab works on the upload and the queue has room. */
  async start() {
    this.#set('queued');
    await this.#takeLease();
    if (this.#state !== 'queued' && this.#state !== 'elsewhere') {
      this.#dropLease();
      return;
    }
    const latest = this.#context.store.get(this.record.id);
    if (!latest || latest.state === 'finished') {
      this.record = latest ?? this.record;
      this.#dropLease();
      this.#set(latest ? 'done' : 'removed');
      return;
    }
    this.record = { ...latest, state: 'unfinished' };
    this.#upload.url = this.record.url;
    this.#set('queued');
    this.#save();
    this.#leaveQueue = this.#context.queue.add(async () => {
      await this.#upload.run();
      if (RESTING.has(this.#state)) this.#dropLease();
    });
  }

  pause() {
    this.record.state = 'paused';
    this.#save();
    if (this.#leaveQueue()) {
      this.#dropLease();
      this.#set('paused');
    } else {
      this.#upload.pause();
    }
  }

  cut() {
    this.#upload.cut();
  }

  retryNow() {
    this.#upload.retryNow();
  }

  /** Needs a click: browsers give leave to read a file only then. Resolves to whether it went on. */
  async resume() {
    if (this.#upload === null) {
      try {
        const leave = await this.#handle.requestPermission({ mode: 'read' });
        if (leave !== 'granted') return false;
        const { file } = await fromHandle(this.#handle);
        if (!isSameFile(this.record, file)) throw new Error('another file');
        this.#adopt(file);
      } catch {
        this.#set('needs-file');
        return false;
      }
    }
    await this.start();
    return true;
  }

  /** Asks for the file again. Resolves to false when it was another one. */
  async chooseAgain() {
    const [source] = await chooseFiles(this.#context.input, false);
    if (!source) return true;
    if (!isSameFile(this.record, source.file)) return false;
    await this.give(source);
    return true;
  }

  /** Has the server remove what it holds, and forgets the upload. */
  async remove() {
    this.#leaveQueue();
    if (this.#upload) {
      if (!(await this.#upload.remove())) return;
    } else if (this.record.url !== null) {
      const before = this.#state;
      this.#set('removing');
      try {
        await removeUpload(this.record.url);
      } catch (error) {
        this.#set(before, error.message);
        return;
      }
    }
    this.clear();
  }

  /** Forgets the upload here and leaves the server alone. */
  clear() {
    this.#context.store.forget(this.record);
    this.#dropLease();
    this.#set('removed');
  }

  async #keep(source) {
    const copied = await this.#context.store.keepSource(this.record, source);
    if (!copied || this.record.state === 'finished' || this.#state === 'removed') return;
    this.record.copied = true;
    this.#save();
  }

  #adopt(file) {
    const metadata = { filename: file.name };
    if (file.type) metadata.filetype = file.type;
    this.#upload = new TusUpload({
      endpoint: this.#context.endpoint,
      file,
      metadata,
      url: this.record.url,
      onChange: (upload) => this.#follow(upload),
    });
    this.#upload.offset = this.#upload.sent = this.#known;
  }

  #follow(upload) {
    if (upload.url !== this.record.url) {
      this.record.url = upload.url;
      this.#save();
    }
    if (upload.state === 'done' && this.#state !== 'done') {
      this.record.state = 'finished';
      this.record.copied = false;
      this.#save();
      this.#context.store.forgetSource(this.record);
      this.#dropLease();
    }
    if (upload.state === 'failed' && upload.fileLost) this.#set('needs-file', upload.message);
    else this.#set(upload.state, upload.message);
  }

  /** Also learns how much the server has. Whatever is unclear counts as there. */
  async #stillThere() {
    try {
      const { offset } = await inspectUpload(this.record.url);
      this.#known = offset;
      return true;
    } catch (error) {
      if (!(error instanceof Refused || error instanceof Disconnected)) throw error;
      return !isGone(error);
    }
  }

  /** One tab at a time; waits for as long as another is at it. */
  async #takeLease() {
    if (!navigator.locks || this.#release) return;
    const name = `landfall ${this.record.id}`;
    const held = (lock) => lock && new Promise((release) => { this.#release = release; });
    await new Promise((done) => {
      navigator.locks.request(name, { ifAvailable: true }, (lock) => { const wait = held(lock); done(); return wait; });
    });
    if (this.#release) return;
    this.#set('elsewhere');
    await new Promise((done) => {
      navigator.locks.request(name, (lock) => { const wait = held(lock); done(); return wait; });
    });
  }

  #dropLease() {
    this.#release?.();
    this.#release = null;
  }

  #save() {
    this.#context.store.save(this.record);
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
    // A kept copy may have been thrown out by the browser; better to know it now.
    if (file && file.size > 0) await file.slice(0, 1).arrayBuffer();
    return file;
  } catch {
    return null;
  }
}

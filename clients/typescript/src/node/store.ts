import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { KeyValueStore } from '../types.js';

/** Keeps each value in a file of a directory; what is half written by a crash is never seen. */
export class FileStore implements KeyValueStore {
  constructor(readonly directory: string) {
    mkdirSync(directory, { recursive: true });
  }

  #path(key: string): string {
    return join(this.directory, `${encodeURIComponent(key)}.json`);
  }

  #names(): string[] {
    return readdirSync(this.directory).filter((name) => name.endsWith('.json'));
  }

  getItem(key: string): string | null {
    try {
      return readFileSync(this.#path(key), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
  }

  setItem(key: string, value: string): void {
    const next = `${this.#path(key)}.new`;
    writeFileSync(next, value);
    renameSync(next, this.#path(key));
  }

  removeItem(key: string): void {
    rmSync(this.#path(key), { force: true });
  }

  key(index: number): string | null {
    const name = this.#names()[index];
    return name === undefined ? null : decodeURIComponent(name.slice(0, -'.json'.length));
  }

  get length(): number {
    return this.#names().length;
  }
}

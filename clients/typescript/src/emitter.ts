/** Calls functions by the name of an event. */
export class Emitter<E> {
  #listeners = new Map<keyof E, Set<(value: any) => void>>();

  /** Calls `listener` from now on; answers how to end that. */
  on<K extends keyof E>(name: K, listener: (value: E[K]) => void): () => void {
    let all = this.#listeners.get(name);
    if (!all) this.#listeners.set(name, (all = new Set()));
    all.add(listener);
    return () => void all.delete(listener);
  }

  /** Calls `listener` the next time. */
  once<K extends keyof E>(name: K, listener: (value: E[K]) => void): () => void {
    const off = this.on(name, (value) => {
      off();
      listener(value);
    });
    return off;
  }

  protected emit<K extends keyof E>(name: K, value: E[K]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        // The listener's own fault: shown as any uncaught error, without harm to the client.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }
}

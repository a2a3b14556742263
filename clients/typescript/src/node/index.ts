export { FileStore } from './store.js';
export { apiKeyTokens } from './login.js';

// One way to call the API. Every call is timed, and announced as an event, which the list of calls shows.

export const calls = new EventTarget();

export class ApiError extends Error {
  constructor(message, hint, status = 0) {
    super(message);
    this.hint = hint;
    this.status = status;
  }
}

// no-store: the browser's own cache stays out of it, so that what is measured is the server's.
export async function call(method, path, { body, token } = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `Bearer ${token}`;
  const started = performance.now();
  const record = { method, path, status: 0, cache: null, key: null, ms: 0 };
  try {
    const response = await fetch(path, {
      method, headers, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    record.ms = performance.now() - started;
    record.status = response.status;
    record.cache = response.headers.get("X-Cache");
    record.key = response.headers.get("X-Cache-Key");
    const data = parsed(text);
    if (!response.ok) throw refused(response.status, data);
    if (data === null) throw new ApiError("The answer is not JSON.", `${method} ${path}`, response.status);
    return { ...record, data };
  } catch (error) {
    if (error instanceof ApiError) throw error;
    record.ms = performance.now() - started;
    throw new ApiError("The API does not answer.", "Is the app still running? Start it again, then try again.");
  } finally {
    calls.dispatchEvent(new CustomEvent("call", { detail: record }));
  }
}

function refused(status, data) {
  const hint = status >= 500
    ? `The server failed (${status}). Its log says why.`
    : `The server refused the call (${status}).`;
  return new ApiError(data?.error ?? `The server answered ${status}.`, hint, status);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

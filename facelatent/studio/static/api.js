// Requests to the studio. Addresses are relative: the page's own has the key in it.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused(0, "The studio does not answer: is it still running in its terminal?");
  }
  if (response.ok) return response;
  let message = `the studio answers ${response.status}`;
  try {
    message = (await response.json()).error || message;
  } catch {
    // Not JSON: the status has to do.
  }
  throw new Refused(response.status, message);
}

const asJson = (method, body) => ({
  method,
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});
const json = async (...given) => (await request(...given)).json();
const blob = async (...given) => (await request(...given)).blob();

export const overview = () => json("studio.json");
export const face = (id) => json(`faces/${id}`);
export const sample = (seed) => json("samples", asJson("POST", { seed }));
export const look = (id, chosen) => json(`faces/${id}/look`, asJson("POST", chosen));
export const move = (id, where) => json(`faces/${id}/${where}`, asJson("POST", {}));
export const other = (id, number) => json(`faces/${id}/other`, asJson("POST", { number }));
export const thumbnail = (id, number) => blob(`faces/${id}/photo/${number}.jpg`);
export const close = (id) => request(`faces/${id}`, { method: "DELETE" });
export const preview = (id, chosen, side) => blob(`faces/${id}/preview`, asJson("POST", { ...chosen, side }));
export const picture = (id) => blob(`faces/${id}/picture.jpg`);
export const before = (id, which) => blob(`faces/${id}/${which}`);

export const upload = (file) =>
  json(`faces?name=${encodeURIComponent(file.name)}`, {
    method: "POST",
    headers: { "Content-Type": "application/octet-stream" },
    body: file,
  });

export async function save(id, kind) {
  const response = await request(`faces/${id}/files/${kind}`);
  const name = /filename\*=UTF-8''(.+)$/.exec(response.headers.get("Content-Disposition"))[1];
  return { name: decodeURIComponent(name), data: await response.blob() };
}

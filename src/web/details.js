"use strict";
// One decision, or one flow, beside the picture. Every text is put in as text.

function made(name, text, kind) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function end(address, port) {
  if (address === undefined) return "";
  if (port === undefined) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

class Details {
  constructor(ask, address, choose) {
    this.ask = ask;
    this.address = address;
    this.choose = choose;
    this.title = document.getElementById("details-title");
    this.hint = document.getElementById("details-hint");
    this.body = document.getElementById("details-body");
    // Answers come in any order: only those to what is shown now count.
    this.shown = 0;
  }

  begin(title) {
    this.shown += 1;
    this.title.textContent = title;
    this.hint.hidden = true;
    this.body.replaceChildren();
    return this.shown;
  }

  async decision(item) {
    const { event } = item;
    const turn = this.begin(`${event.node} ${event.stage} #${event.seq}`);
    const after = event.after || event.before;
    const was = event.before || {};
    const is = after || {};
    const row = (name, before, now) => {
      const line = made("tr");
      line.append(made("th", name), made("td", before), made("td", now, before !== now && now !== "" ? "changed" : ""));
      return line;
    };
    const marks = (marks) => (marks ? [marks.before || "?", marks.after || marks.before || "?"] : ["", ""]);
    const table = made("table");
    const head = made("tr");
    head.append(made("th"), made("th", "before"), made("th", "after"));
    table.append(
      head,
      row("source", end(was.src, was.sport), end(is.src, is.sport)),
      row("destination", end(was.dst, was.dport), end(is.dst, is.dport)),
      row("mark", ...marks(event.mark)),
    );
    if (event.ct_mark) table.append(row("ct mark", ...marks(event.ct_mark)));
    const verdict = made("p");
    verdict.append("Verdict: ", made("span", event.verdict, event.verdict === "drop" ? "drop" : "right"), ", reason: ", made("b", event.reason));
    const about = made("table");
    const fact = (name, text) => {
      if (!text) return;
      const line = made("tr");
      line.append(made("th", name), made("td", text));
      about.append(line);
    };
    fact("time", event.time);
    fact("packet", item.packet);
    fact("decision", item.decision);
    fact("service", event.service);
    fact("entry node", event.entry);
    fact("in", [event.in, event.phys_in].filter(Boolean).join(", port "));
    fact("out", [event.out, event.phys_out].filter(Boolean).join(", port "));
    fact("frame from", event.mac && [event.mac.address, event.mac.node].filter(Boolean).join(" "));
    fact("conntrack", event.ct_state);
    fact("not read", event.malformed && JSON.stringify(event.malformed));
    fact("decided in", `${(event.deciding_ns / 1000).toFixed(1)} µs`);
    const buttons = made("div", undefined, "buttons");
    if (item.flow) {
      const button = made("button", `The flow: ${item.flow}`);
      button.id = "show-flow";
      button.type = "button";
      button.addEventListener("click", () => this.flow(item));
      buttons.append(button);
    }
    const why = made("pre", "…");
    why.id = "why";
    this.body.append(verdict, table, buttons, made("h3", "Why, and why not otherwise"), why, made("h3", "All of it"), about);
    const answer = await this.ask("why", { id: item.id });
    if (turn !== this.shown) return;
    why.textContent = answer ? answer.text : "This decision is not kept any more.";
  }

  async flow(item) {
    const turn = this.begin(item.flow);
    const answer = await this.ask("flow", { id: item.id });
    if (turn !== this.shown) return;
    if (!answer) {
      this.body.append(made("p", "This flow is not kept any more."));
      return;
    }
    answer.conversations.forEach((conversation, place) => {
      const finding = made("p");
      finding.append(made("span", conversation.words, conversation.fault ? "wrong finding" : "right finding"), ` — ${conversation.says}`);
      this.body.append(finding);
      if (conversation.causes && conversation.causes.length) {
        const list = made("ul");
        for (const cause of conversation.causes) list.append(made("li", `${cause.cause}: ${cause.says || ""}`));
        this.body.append(list);
      }
      const box = made("div", undefined, "ladder");
      const picture = made("img");
      picture.alt = conversation.text;
      picture.src = this.address("ladder.svg", { id: item.id, conversation: place });
      box.append(picture);
      this.body.append(box, made("pre", conversation.text, "ladder-text"));
    });
    const buttons = made("div", undefined, "buttons");
    const only = made("button", "Only this flow");
    only.type = "button";
    only.addEventListener("click", () => this.choose(item));
    const back = made("button", "Back to the decision");
    back.type = "button";
    back.addEventListener("click", () => this.decision(item));
    buttons.append(only, back);
    this.body.prepend(buttons);
  }
}

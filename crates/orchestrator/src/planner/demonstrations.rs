//! Plans for invented tools, shown before every request: small models follow what they see more than what they are told.
//!
//! They come before the registered tools and never change, so that an LLM node reads them once.

use kamil_protocol::reason::{ChatMessage, Speaker};

/// Tools and request, and the plan.
const DEMONSTRATIONS: &[(&str, &str)] = &[
    // Several parts, one of which needs a result that nobody asked for.
    (
        "Tools:\n\
         account.login(user, password) -> token  # Log in\n\
         calendar.add(token, title, time) -> event  # Add an event to the calendar\n\
         weather.forecast(city, days?: integer) -> forecast  # Weather of the next days\n\
         mail.send(to, subject, text) -> sent  # Send a mail\n\n\
         Request: I'm dora, password blue77. Put \"dentist\" on my calendar for 2024-05-02 09:30 and mail the forecast for Graz \
         to tom@example.com.\nPlan:",
        "s1 = account.login(user=\"dora\", password=\"blue77\")\n\
         s2 = calendar.add(token=s1.token, title=\"dentist\", time=\"2024-05-02 09:30\")\n\
         s3 = weather.forecast(city=\"Graz\")\n\
         s4 = mail.send(to=\"tom@example.com\", subject=\"Forecast for Graz\", text=s3.forecast)\n\
         answer",
    ),
    // A tool on the same subject that does something else.
    (
        "Tools:\ntaxi.order(address, seats: integer)  # Order a taxi\n\n\
         Request: Explain how a taxi meter works, and write a Python class for one.\nPlan:",
        "answer",
    ),
    // A request that names no tool.
    (
        "Tools:\n\
         units.convert(value: number, from, to) -> result  # Convert between units\n\
         movies.search(genre: \"drama\" | \"comedy\" | \"horror\", year?: integer) -> movies  # Find movies\n\n\
         Request: Something funny from 1999 for tonight\nPlan:",
        "s1 = movies.search(genre=\"comedy\", year=1999)\nanswer",
    ),
    // Tools that are near, and do not do it.
    (
        "Tools:\n\
         hotel.book(city, nights: integer) -> booking  # Book a hotel\n\
         stocks.price(symbol) -> price  # Current price of a stock\n\n\
         Request: Find a flight from Oslo to Rome on Monday.\nPlan:",
        "answer",
    ),
    // An order of effects, without values that pass from call to call.
    (
        "Tools:\n\
         book_search()  # Look for a book in the library\n\
         book_reserve()  # Reserve a book\n\
         reservation_cancel()  # Cancel a reservation\n\
         reading_tips()  # Recommend books\n\n\
         Request: Reserve \"Dune\" for me instead of \"Emma\", which I had reserved.\nPlan:",
        "s1 = book_search()\ns2 = reservation_cancel()\ns3 = book_reserve()\nanswer",
    ),
];

/// Shown where a tool returns a list: a call for each of its items, and one on a condition.
const OVER_A_LIST: (&str, &str) = (
    "Tools:\n\
     shelf.list(room) -> names  # Names of the plants in a room\n\
     plant.water(name) -> moisture  # Water a plant\n\
     tank.level() -> litres  # Water that is left\n\
     tank.fill()  # Fill the tank\n\n\
     Request: Water every plant in the hall, and fill the tank if less than 5 litres are left.\nPlan:",
    "s1 = shelf.list(room=\"hall\")\n\
     s2 = plant.water(name=item) for s1.names\n\
     s3 = tank.level()\n\
     s4 = tank.fill() if s3.litres < 5\n\
     answer",
);

/// The demonstrations as turns of a conversation.
pub(super) fn demonstrations(with_lists: bool) -> impl Iterator<Item = ChatMessage> {
    let over_a_list = with_lists.then_some(&OVER_A_LIST);
    over_a_list.into_iter().chain(DEMONSTRATIONS).flat_map(|(asked, plan)| {
        [ChatMessage::new(Speaker::User, *asked), ChatMessage::new(Speaker::Assistant, *plan)]
    })
}

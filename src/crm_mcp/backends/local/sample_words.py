"""The words that the sample is made of: nobody in it exists."""

from __future__ import annotations

FIRST_NAMES = [
    "Ada",
    "Adrian",
    "Agnes",
    "Aisha",
    "Alan",
    "Albert",
    "Alice",
    "Amara",
    "Amir",
    "Ana",
    "Andre",
    "Anita",
    "Anton",
    "Aria",
    "Arthur",
    "Astrid",
    "Beatriz",
    "Benedikt",
    "Bianca",
    "Bruno",
    "Camille",
    "Carla",
    "Carlos",
    "Cecilia",
    "Chen",
    "Chloé",
    "Clara",
    "Colin",
    "Dalia",
    "Daniel",
    "Darius",
    "Diana",
    "Diego",
    "Edith",
    "Elena",
    "Eleni",
    "Elias",
    "Emil",
    "Emma",
    "Erik",
    "Esther",
    "Fatima",
    "Felix",
    "Fiona",
    "Frank",
    "Frida",
    "Gabriel",
    "Gemma",
    "George",
    "Greta",
    "Hana",
    "Hannah",
    "Hassan",
    "Helen",
    "Hugo",
    "Ida",
    "Ines",
    "Ingrid",
    "Irene",
    "Isaac",
    "Ivan",
    "Jack",
    "Jamal",
    "James",
    "Jonas",
    "José",
    "Julia",
    "Karim",
    "Kenji",
    "Klara",
    "Lars",
    "Laura",
    "Leila",
    "Leo",
    "Lina",
    "Louis",
    "Lucia",
    "Luis",
    "Magda",
    "Malik",
    "Marco",
    "Maria",
    "Marta",
    "Matthew",
    "Maya",
    "Mei",
    "Mila",
    "Mohamed",
    "Nadia",
    "Naomi",
    "Nina",
    "Noah",
    "Nora",
    "Oliver",
    "Olga",
    "Omar",
    "Oscar",
    "Paula",
    "Pedro",
    "Petra",
    "Priya",
    "Rachel",
    "Rafael",
    "Ravi",
    "Renée",
    "Robert",
    "Rosa",
    "Ruth",
    "Samir",
    "Sara",
    "Sofia",
    "Søren",
    "Stefan",
    "Tara",
    "Teresa",
    "Thomas",
    "Tomás",
    "Uma",
    "Vera",
    "Victor",
    "Viktor",
    "Wanda",
    "William",
    "Xenia",
    "Yara",
    "Yusuf",
    "Zoe",
]

LAST_NAMES = [
    "Abbott",
    "Adeyemi",
    "Ahmed",
    "Alvarez",
    "Andersen",
    "Bachmann",
    "Baker",
    "Barros",
    "Bauer",
    "Becker",
    "Bennett",
    "Berg",
    "Bianchi",
    "Blake",
    "Boateng",
    "Brandt",
    "Carter",
    "Castillo",
    "Chandra",
    "Chowdhury",
    "Clarke",
    "Cohen",
    "Costa",
    "Cruz",
    "Dahl",
    "Das",
    "Delgado",
    "Dubois",
    "Duarte",
    "Ebert",
    "Ekström",
    "Ellis",
    "Farah",
    "Ferreira",
    "Fischer",
    "Fontaine",
    "Foster",
    "García",
    "Gallo",
    "Ganguly",
    "Gibson",
    "Gomes",
    "Grant",
    "Graf",
    "Haddad",
    "Hansen",
    "Harper",
    "Hayashi",
    "Hoffmann",
    "Horvat",
    "Hughes",
    "Ibrahim",
    "Ivanova",
    "Jacobs",
    "Jansen",
    "Johansson",
    "Kaplan",
    "Kaya",
    "Keller",
    "Khan",
    "Kim",
    "Klein",
    "Kovács",
    "Kowalski",
    "Krüger",
    "Kumar",
    "Lambert",
    "Larsen",
    "Laurent",
    "Lehmann",
    "Lindqvist",
    "Lopes",
    "Maier",
    "Marín",
    "Martins",
    "Mbeki",
    "Mehta",
    "Meyer",
    "Moreau",
    "Moretti",
    "Morgan",
    "Müller",
    "Nakamura",
    "Navarro",
    "Ndiaye",
    "Nguyen",
    "Nielsen",
    "Novak",
    "Nunes",
    "Okafor",
    "Olsen",
    "Ortega",
    "Osei",
    "Özdemir",
    "Palmer",
    "Park",
    "Patel",
    "Pereira",
    "Petit",
    "Popescu",
    "Porter",
    "Qureshi",
    "Ramírez",
    "Reyes",
    "Ricci",
    "Rossi",
    "Roux",
    "Ruiz",
    "Salonen",
    "Santos",
    "Sato",
    "Schäfer",
    "Schmidt",
    "Schulz",
    "Shah",
    "Silva",
    "Singh",
    "Sørensen",
    "Suzuki",
    "Takeda",
    "Tan",
    "Torres",
    "Tran",
    "Turner",
    "Vargas",
    "Vogel",
    "Wagner",
    "Walsh",
    "Weber",
    "Weiss",
    "Winter",
    "Wójcik",
    "Yamada",
    "Yilmaz",
    "Zimmermann",
]

COMPANIES = """Alder Analytics|Amberfield Foods|Arcline Architects|Aster Health|Beacon Freight|Birchwood Press|Bluewater
Labs|Boreal Outdoor|Brightside Dental|Calder Textiles|Canopy Software|Cedar Legal|Cobalt Security|Copperleaf
Kitchens|Corvid Media|Delta Harvest|Driftwood Hotels|Eastgate Logistics|Ember Energy|Evergreen Clinics|Falcon
Instruments|Fernhill Farms|Foundry Nine|Garnet Finance|Glasshouse Studio|Granite Works|Greyfriars School|Halcyon
Travel|Harbour Marine|Heron Insurance|Hollyoak Homes|Indigo Print|Ironbridge Tools|Juniper Pharma|Kestrel
Aviation|Kite Robotics|Lantern Learning|Larkspur Beauty|Linden Care|Lumen Optics|Maple Street Bank|Meridian
Mapping|Mosaic Tiles|Nimbus Hosting|North Quay Shipping|Oakhurst Estates|Orchard Payroll|Osprey Telecom|Paper
Lantern Events|Pinecrest Resorts|Quarry Stone|Redwing Cycles|Riverbend Water|Saffron Catering|Silverline
Rail|Solstice Solar|Tideway Films|Umbra Lighting""".replace("\n", " ").split("|")

TITLES = """Chief Executive Officer|Head of Operations|Purchasing Manager|IT Director|Office Manager|VP of Sales|Plant
Manager|Marketing Lead|Founder|Finance Director|Product Manager|Head of Procurement""".replace("\n", " ").split("|")

OWNERS = ("Priya Raman", "Tom Becker", "Lucía Ortega", "Sam Whitaker")
TAGS = ("newsletter", "trade-fair", "webinar", "referral", "enterprise", "partner", "price-sensitive", "vip")
LISTS = ("Spring trade fair", "Webinar guests", "Website enquiries", "Partner referrals")
INDUSTRIES = ("manufacturing", "health", "retail", "logistics", "software", "hospitality")
AREA_CODES = ("212", "303", "312", "404", "415", "512", "617", "702", "206", "305")
LOST_REASONS = ("no budget this year", "went with another supplier", "project stopped")

NOTES = """Met at the trade fair in spring. Interested in a trial for one team, wants to see the reporting first.
Uses spreadsheets today and loses track of follow-ups. Main wish: one list that everybody sees.
Budget is decided in the quarterly meeting. Should hear from us the week before.
Asked how the data can be exported again if they ever leave. Sent the page about it.
Prefers e-mail over phone, answers mostly in the morning.
Has a contract with another supplier until the end of the year, open to a comparison.
Wants a reference customer in the same industry before the next step.
The technical colleague should join the next talk, security questions are open.
Very happy with the support so far. Good candidate for a reference.
Team grows from 12 to 20 people, needs an offer for the larger plan.
Price was too high in the first round. A yearly payment could help.
Asked to be called again after the holidays.
Decides together with the finance director, who has to see the calculation.
Reads our newsletter and quoted the article about onboarding.
Implementation has to be finished before the audit.""".splitlines()

MEETINGS = """Demo with three people from the team: the pipeline view went down well, permissions remain open.
Walked through the offer line by line. They will answer after the board meeting.
First meeting on site. Showed the import with their own file, which worked.""".splitlines()

TASKS = """Send the revised quote|Call back about the trial|Prepare the demo|Ask for a reference|Send the security
questionnaire|Check the contract end date|Follow up on the invoice|Introduce the new contact|Book a meeting with
finance|Share the case study""".replace("\n", " ").split("|")

DEALS = ("pilot", "annual plan", "team rollout", "renewal", "extra seats", "support package")

# Subject, what we wrote, what came back.
MAILS = (
    (
        "Your question about pricing",
        "Hello {first},\n\nthank you for your question. Shall I send a quote for your size?\n\nKind regards\n{owner}",
        "Hi {owner},\n\nyes please, for 15 people. And can we pay yearly?\n\nBest\n{first}",
    ),
    (
        "Summary of our call",
        "Hello {first},\n\nas agreed: a trial for two weeks, with your own data, then a talk.\n\nKind regards\n{owner}",
        "Thanks {owner}, that is right. My colleague from IT will join us.\n\n{first}",
    ),
    (
        "Material from the webinar",
        "Hello {first},\n\nhere are the slides. The part that you asked about starts on page 12.\n\nBest\n{owner}",
        "Great, thank you. I have passed them on to {company}'s finance team.\n\n{first}",
    ),
    (
        "Next steps",
        "Hello {first},\n\nwould Tuesday or Thursday suit you for the next step?\n\nKind regards\n{owner}",
        "Thursday at ten works.\n\n{first}",
    ),
)

TEXTS = (
    ("Hello {first}, {owner} here. Is 2 pm tomorrow still good for our call?", "Yes, talk to you then."),
    ("Hi {first}, the quote is in your inbox. Call me with any question. {owner}", "Thanks, will look at it tonight."),
    ("Hi {first}, a short reminder of our meeting on Thursday. {owner}", "I am running ten minutes late, sorry!"),
)

TRANSCRIPTS = (
    """{owner}: Good morning {first}, {owner} here. Do you have ten minutes?
{first}: Yes, now is fine. I read your summary.
{owner}: What did you think?
{first}: The import is what convinced my team. The price for 20 people is above what I can sign by myself, though.
{owner}: Would it help to start with ten people and grow in autumn?
{first}: That would. Send me that version and I take it to our finance director on Monday.
{owner}: You have it by tomorrow noon.""",
    """{owner}: Hello {first}, how did the trial go?
{first}: Good and bad. Everybody likes the list view, but nobody found the export at first.
{owner}: It sits in the menu at the top right. I send you a short video.
{first}: Perfect. The second point is security: our IT has a questionnaire, about forty questions.
{owner}: Send it over, we usually need two days.
{first}: Then let us talk again next week.""",
    """{first}: {company}, {first} speaking.
{owner}: This is {owner}. You asked for a call about the renewal.
{first}: Right. We are happy, but we have to cut costs. Can you do anything about the price?
{owner}: For two years I can take ten per cent off.
{first}: That sounds fair. I need it in writing to decide.
{owner}: Gladly, today still.""",
    """{owner}: Hello {first}, am I calling at a bad time?
{first}: I am on the way to a meeting. Can we make it short?
{owner}: Of course. Is the project still planned for this year?
{first}: Yes, but it moved to the last quarter. Please call again in September.
{owner}: I will. Good luck in the meeting.""",
)

JANE_TRANSCRIPT = """{owner}: Hi Jane, {owner} here. Thanks for making time.
Jane: Sure. We went through the quote for the pilot yesterday.
{owner}: And what is your impression?
Jane: The scope is right, but it has to change in two places. We need eight robots in the pilot, not six, and training
for the night shift has to be part of it.
{owner}: Understood. Eight units, and training for both shifts.
Jane: Exactly. And please split the payment: half at the start, half after acceptance. Our CFO insists on that.
{owner}: That is possible. When do you need it?
Jane: Could you send me a revised quote by the end of next week? The steering committee meets right after.
{owner}: You will have it. Anything else?
Jane: No, with that I can defend it. Send it to my e-mail please, I travel a lot and the phone is often off."""

SEQUENCES = (
    (
        "New enquiry",
        (
            (0, "email", "Thank you for your enquiry", "Hello, thank you for writing to us. When may we call you?"),
            (2, "sms", None, "Hello, we tried to reach you about your enquiry. When is a good time?"),
            (5, "email", "Still interested?", "Hello, is the topic still current for you? A short answer is enough."),
        ),
    ),
    (
        "After the trade fair",
        (
            (
                1,
                "email",
                "Good to meet you at the fair",
                "Hello, it was good to meet you. Here is what we spoke about.",
            ),
            (6, "email", "An example from your industry", "Hello, this is how a company like yours does it."),
        ),
    ),
)

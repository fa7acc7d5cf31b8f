# Drills: what breaks on purpose, in a node of their own.
prove "Drills run by themselves and pass: a storm over quota, policy's outage, slow clients" 'PASS quota-storm.*PASS policy-outage.*PASS slow-client.*exit 0' 'ronctl drill run quota-storm policy-outage slow-client | grep -E "PASS|FAIL|saw"'
prove "Drills run by themselves and pass: bad capabilities, oversize, a service that crashes" 'PASS bad-capability.*PASS oversize.*PASS service-crash.*exit 0' 'ronctl drill run bad-capability oversize service-crash | grep -E "PASS|FAIL|saw"'
